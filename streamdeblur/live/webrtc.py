"""Video to browsers by WebRTC: coded with motion, as fast as their network allows. Needs aiortc."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from fractions import Fraction
from typing import Any

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.codecs import vpx

from streamdeblur.live.newest import Newest
from streamdeblur.stills import as_planes

MOST_PEERS = 8
"""Each has an encoder of its own; others are shown MJPEG, which is coded once for all."""
_SECONDS_TO_CONNECT = 15.0
_CLOCK = 90_000  # ticks per second, by RFC 7741

# aiortc's bounds, up to 1.5 Mbit/s, are for faces in small windows; a picture that is to be
# judged for sharpness needs more. The browser still says how much gets through, and has its way.
vpx.DEFAULT_BITRATE = 4_000_000
vpx.MAX_BITRATE = 20_000_000


class Peers:
    """The browsers that are connected.

    Args:
        newest: what they see.
        host: the address to send from; all of this computer's but loopback if it is 0.0.0.0 or ::.
    """

    def __init__(self, newest: Newest, host: str) -> None:
        self._newest = newest
        self._host = None if ipaddress.ip_address(host).is_unspecified else host
        self._connections: set[RTCPeerConnection] = set()
        self._watches: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def is_full(self) -> bool:
        """Whether there are as many as may be."""
        return len(self) >= MOST_PEERS

    async def answer(self, offer: str) -> str:
        """The answer to a browser's offer, both SDP; video is sent once they have connected.

        Raises:
            ValueError: the offer cannot be understood, or does not ask for VP8 video.
        """
        # No servers: by default aiortc would tell one of another company who is watching.
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connections.add(connection)
        watch = asyncio.create_task(self._watch(connection))
        self._watches.add(watch)  # or it could be collected while it runs
        watch.add_done_callback(self._watches.discard)
        try:
            connection.addTrack(_Track(self._newest))
            (transceiver,) = connection.getTransceivers()
            codecs = RTCRtpSender.getCapabilities("video").codecs
            transceiver.setCodecPreferences(
                [codec for codec in codecs if codec.mimeType in ("video/VP8", "video/rtx")]
            )
            await connection.setRemoteDescription(RTCSessionDescription(_plain(offer), "offer"))
            if transceiver.mid is None:
                raise ValueError("it does not ask for video")
            self._send_from_host(transceiver.sender)
            await connection.setLocalDescription(await connection.createAnswer())
        except BaseException as error:
            await self._close(connection)
            if isinstance(error, Exception):
                raise ValueError(f"the offer cannot be answered: {error}") from error
            raise
        return connection.localDescription.sdp

    async def close(self) -> None:
        """Part from all."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*(self._close(connection) for connection in set(self._connections)))

    def _send_from_host(self, sender: RTCRtpSender) -> None:
        """Use the server's own address: aioice would use all but loopback."""
        if (host := self._host) is None:
            return
        connection: Any = sender.transport.transport.iceGatherer._connection
        gather = connection.get_component_candidates
        connection.get_component_candidates = lambda component, addresses, timeout=5: gather(
            component, [host], timeout
        )

    async def _watch(self, connection: RTCPeerConnection) -> None:
        """Close `connection` when it ends, or does not begin."""
        changed = asyncio.Event()
        connection.on("connectionstatechange", changed.set)
        try:
            async with asyncio.timeout(_SECONDS_TO_CONNECT) as limit:
                while connection.connectionState not in ("failed", "closed"):
                    if connection.connectionState == "connected":
                        limit.reschedule(None)
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            pass
        await self._close(connection)

    async def _close(self, connection: RTCPeerConnection) -> None:
        # Whoever asks for it may be cancelled; left half done, it would keep its sockets.
        await asyncio.shield(connection.close())
        self._connections.discard(connection)


def _plain(offer: str) -> str:
    """The offer without addresses that browsers hide behind names ending in `.local`.

    To resolve them would take multicast to the whole network. They are not needed: the browser
    knocks first, which shows where it is, and more addresses are left to be expected.
    """
    lines = offer.splitlines()
    kept = [line for line in lines if not (line.startswith("a=candidate:") and ".local " in line)]
    if len(kept) < len(lines):
        kept = [line for line in kept if line != "a=end-of-candidates"]
    return "\r\n".join([*kept, ""])


class _Track(MediaStreamTrack):
    """The newest picture, whenever the encoder has time for one."""

    kind = "video"

    def __init__(self, newest: Newest) -> None:
        super().__init__()
        self._newest = newest
        self._number = 0

    async def recv(self) -> av.VideoFrame:
        """Wait for a picture that was not sent yet."""
        self._number, planes = await self._newest.coded(as_planes, self._number)
        # A copy for each encoder, which writes its wishes into it.
        picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        picture.pts = int(time.monotonic() * _CLOCK)
        picture.time_base = Fraction(1, _CLOCK)
        return picture
