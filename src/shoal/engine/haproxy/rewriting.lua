-- Replaces texts in the bodies of servers' answers.
--
--   filter lua.rewriting TYPES PAIRS
--
-- TYPES are content types, PAIRS are SEARCH:REPLACEMENT; each text in hexadecimal, several between commas.
--
-- A body comes in pieces, and goes on as it comes. What may be the beginning of a text that the next piece completes waits in
-- HAProxy's own buffer, and so does what finds no room in it: nothing of a body is kept here. No replacement is longer than the
-- part of a buffer that HAProxy keeps free for changes, so one at a time always fits. Where texts are removed the last octet waits,
-- too: the end of a body needs one.

local find, sub = string.find, string.sub
local GROWTHS = { 16384, 4096, 512, 0 } -- octets more than there were, tried one after the other
local EMPTY_ENOUGH = 8192 -- octets, in the smallest of HAProxy's buffers
local SOON_MS, LATE_MS = 1, 1000 -- until the rest is looked at: HAProxy does so by itself once a client has read what waits for him
local WITHOUT_BODY = { [204] = true, [205] = true, [304] = true }
local PARTIAL = 206 -- of a body that is not all here

local Rewriting = { id = "rewriting", flags = filter.FLT_CFG_FL_HTX }
Rewriting.__index = Rewriting

function Rewriting:new()
    return setmetatable({ types = self.types, pairs = self.pairs, removes = self.removes, kept = 0 }, Rewriting)
end

local function first(headers, name)
    return headers[name] and headers[name][0]
end

local function fits(types, headers)
    local kind = string.lower(string.match(first(headers, "content-type") or "", "^%s*([^;%s]*)"))
    local coding = string.lower(first(headers, "content-encoding") or "identity")
    return coding == "identity" and (types[kind] or types[string.match(kind, "^[^/]*") .. "/*"])
end

function Rewriting:http_headers(txn, message)
    if not message:is_resp() then
        local line = message:get_stline()
        self.takes = line.version ~= "HTTP/1.0" -- who knows no chunks would need a length
        self.bodyless = line.method == "HEAD"
        return filter.CONTINUE
    end
    local status, headers = tonumber(message:get_stline().code), message:get_headers()
    local changes = status >= 200 and not WITHOUT_BODY[status] and status ~= PARTIAL
    if not (self.takes and changes and fits(self.types, headers)) then
        return filter.CONTINUE
    end
    for _, name in ipairs({ "content-length", "content-md5", "digest", "accept-ranges" }) do
        message:del_header(name)
    end
    local tag = first(headers, "etag")
    if tag and sub(tag, 1, 2) ~= "W/" then -- no longer the server's octets (RFC 9110, 8.8.1)
        message:set_header("etag", "W/" .. tag)
    end
    if not self.bodyless then
        filter.register_data_filter(self, message.channel)
    end
    return filter.CONTINUE
end

-- Where in ``body``, from ``from`` on, a text may begin that goes on behind its end; behind it for nowhere.
local function unsure(pairs, body, from)
    local size = #body
    local found = size + 1
    for _, pair in ipairs(pairs) do
        local at = math.max(from, size - #pair.search + 2)
        while at < found do
            at = find(body, pair.beginning, at, true)
            if not at or at >= found then
                break
            end
            if sub(body, at) == sub(pair.search, 1, size - at + 1) then
                found = at
                break
            end
            at = at + 1
        end
    end
    return found
end

-- The next text from ``from`` on: (where, which). ``known`` has where each was found last. The first counts, of those at one
-- place the longest.
local function next_of(pairs, body, from, known)
    local where, which
    for index, pair in ipairs(pairs) do
        local at = known[index]
        if at == nil or (at and at < from) then
            at = find(body, pair.search, from, true) or false
            known[index] = at
        end
        if at and (where == nil or at < where) then
            where, which = at, pair
        end
    end
    return where, which
end

-- (what becomes of the beginning of ``body``, how long that beginning is). It is looked at from ``from`` on, and grows by
-- ``growth`` octets at most; the third value says whether that has cut it short.
local function rewritten(pairs, body, from, whole, growth)
    local parts, known = { sub(body, 1, from - 1) }, {}
    local till = whole and #body + 1 or unsure(pairs, body, from)
    while true do
        local at, pair = next_of(pairs, body, from, known)
        if at == nil or at >= till then
            break
        end
        growth = growth - (#pair.replacement - #pair.search)
        if growth < 0 then
            return table.concat(parts) .. sub(body, from, at - 1), at - 1, true
        end
        parts[#parts + 1] = sub(body, from, at - 1)
        parts[#parts + 1] = pair.replacement
        from = at + #pair.search
        if from > till then
            till = whole and #body + 1 or unsure(pairs, body, from)
        end
    end
    parts[#parts + 1] = sub(body, from, till - 1)
    return table.concat(parts), till - 1, false
end

-- Whether ``text`` stands where the beginning of ``body`` stood, which is so long.
local function put(message, text, body, taken)
    if text == "" then
        return message:remove(0, taken) == taken
    end
    return text == sub(body, 1, taken) or message:set(text, 0, taken) == #text
end

-- Whether no more will come. Of a body that ends with its connection HAProxy does not say so: then there is room, and none is
-- waited for.
local function is_whole(message)
    local room = message:input() + message:output() < EMPTY_ENOUGH
    return message:eom() or (room and not message:may_recv())
end

function Rewriting:http_payload(txn, message)
    local body, whole, kept = message:body(), is_whole(message), self.kept
    if body == nil or body == "" then
        return
    end
    for _, growth in ipairs(GROWTHS) do
        local text, taken, cut = rewritten(self.pairs, body, kept + 1, whole, growth)
        local ends = whole and taken == #body
        if ends and text == "" then -- HAProxy ends no body without an octet
            text = "\n"
        end
        if taken == kept and not ends then
            if cut then
                filter.wake_time(LATE_MS)
            end
            break
        elseif put(message, text, body, taken) then
            self.kept = (self.removes and not ends and text ~= "") and 1 or 0
            if cut then
                filter.wake_time(SOON_MS)
            end
            if ends then
                return
            end
            return #text - self.kept
        end
    end
    return 0
end

local function decoded(text)
    return (string.gsub(text, "%x%x", function(digits)
        return string.char(tonumber(digits, 16))
    end))
end

core.register_filter("rewriting", Rewriting, function(made, arguments)
    made.types, made.pairs, made.removes = {}, {}, false
    for text in string.gmatch(arguments[1], "[^,]+") do
        made.types[string.lower(decoded(text))] = true
    end
    for search, replacement in string.gmatch(arguments[2], "(%x+):(%x*)") do
        search, made.removes = decoded(search), made.removes or replacement == ""
        table.insert(made.pairs, { search = search, beginning = sub(search, 1, 1), replacement = decoded(replacement) })
    end
    table.sort(made.pairs, function(one, other)
        return #one.search > #other.search
    end)
    return made
end)
