"""The first thing an engine does that has a join token: make a key, and have the controller certify it (decision 47)."""

from __future__ import annotations

import asyncio
import logging
import random
import subprocess
from pathlib import Path

from shoal import whole_file
from shoal.errors import NotReady, ShoalError
from shoal.wire import messages
from shoal.wire.channel import Channel, ChannelClosed, connect
from shoal.wire.engine_config import JOIN_KEY, JOIN_TOKEN, EngineConfig
from shoal.wire.tls import engine_context

log = logging.getLogger("shoal.joining")

KEY, CERTIFICATE = "key.pem", "certificate.pem"
RETRY_FIRST_S = 0.05
RETRY_MAX_S = 5.0
KEY_WITHIN_S = 20.0


async def join(config: EngineConfig) -> None:
    """Returns when the engine has a certificate, which it may have had before."""
    folder = Path(config.directory)
    if not (folder / CERTIFICATE).exists() and (folder / JOIN_TOKEN).exists():
        certificate = await _certified(config, folder)
        whole_file.write(folder / CERTIFICATE, certificate)
        whole_file.flush(folder)
    for name in (JOIN_KEY, JOIN_TOKEN):
        (folder / name).unlink(missing_ok=True)


def _request(folder: Path) -> bytes:
    """For a new key, which is on the disk then."""
    (folder / KEY).touch(mode=0o600)
    command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=engine", "-keyout", str(folder / KEY)]
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=KEY_WITHIN_S).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        raise NotReady(f"openssl makes no key: {error} {said.decode(errors='replace')[-200:]}") from None


async def _certified(config: EngineConfig, folder: Path) -> bytes:
    delay, request = RETRY_FIRST_S, b""
    while True:
        for controller in config.controllers:
            try:
                request = request or await asyncio.to_thread(_request, folder)
                return await _asked(controller, config.id, folder, request)
            except (OSError, ValueError, ShoalError) as error:
                log.info("joining by controller %s: %s", controller, error)
        await asyncio.sleep(delay * (0.5 + random.random()))
        delay = min(2 * delay, RETRY_MAX_S)


async def _asked(controller: str, engine: str, folder: Path, request: bytes) -> bytes:
    host, _, port = controller.rpartition(":")
    context = engine_context(folder, JOIN_KEY, JOIN_TOKEN)
    link: Channel[messages.FromController] = await connect(host.strip("[]"), int(port), context)
    try:
        await link.send(messages.Join(wire_version=messages.WIRE_VERSION, engine=engine, request=request))
        match await link.receive():
            case messages.Joined(certificate=certificate):
                return certificate
            case messages.Rejected(why=why):
                raise ChannelClosed(f"it lets nobody join by this token: {why}")
            case other:
                raise ChannelClosed(f"it answers {type(other).__name__}")
    finally:
        await link.close()
