-- The signatures of JSON web tokens (RFC 7515): the converter
--
--   lua.signed(ALGORITHM,KEY)
--
-- says whether a token is signed so. KEY is a public one, the text of its PEM without first and last line.

local digest, pkey = require("openssl.digest"), require("openssl.pkey")
local HASHES = { ["256"] = "sha256", ["384"] = "sha384", ["512"] = "sha512" }
local HALVES = { ES256 = 32, ES384 = 48, ES512 = 66 } -- octets of r and of s (RFC 7518, 3.4)
local LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
local VALUES, keys = {}, {}
for place = 1, #LETTERS do
    VALUES[string.byte(LETTERS, place)] = place - 1
end

-- The octets of a text in base64url (RFC 4648, 5); nil when it is none.
local function decoded(text)
    local bits, count, octets = 0, 0, {}
    for place = 1, #text do
        local value = VALUES[string.byte(text, place)]
        if value == nil then
            return nil
        end
        bits, count = bits << 6 | value, count + 6
        if count >= 8 then
            count = count - 8
            octets[#octets + 1] = string.char(bits >> count)
            bits = bits & (1 << count) - 1
        end
    end
    return table.concat(octets)
end

-- A positive number as DER has it (X.690, 8.3).
local function integer(octets)
    octets = string.gsub(octets, "^\0+", "")
    if octets == "" or string.byte(octets) > 127 then
        octets = "\0" .. octets
    end
    return "\2" .. string.char(#octets) .. octets
end

-- OpenSSL wants r and s as DER; nil when that can't be.
local function sequence(signature, half)
    if #signature ~= 2 * half then
        return nil
    end
    local both = integer(string.sub(signature, 1, half)) .. integer(string.sub(signature, half + 1))
    return "\48" .. (#both > 127 and "\129" or "") .. string.char(#both) .. both
end

local function key(text)
    if keys[text] == nil then
        local lines = string.gsub(text, string.rep(".", 64), "%0\n")
        keys[text] = pkey.new("-----BEGIN PUBLIC KEY-----\n" .. lines .. "\n-----END PUBLIC KEY-----\n")
    end
    return keys[text]
end

local function signed(token, algorithm, text)
    local said, signature = string.match(token, "^([%w_-]+%.[%w_-]+)%.([%w_-]+)$")
    signature = signature and decoded(signature)
    if signature and HALVES[algorithm] then
        signature = sequence(signature, HALVES[algorithm])
    end
    if not signature then
        return false
    end
    return key(text):verify(signature, digest.new(HASHES[string.sub(algorithm, 3)]):update(said))
end

core.register_converters("signed", function(token, algorithm, text)
    local done, good = pcall(signed, token, algorithm, text)
    return done and good == true
end)
