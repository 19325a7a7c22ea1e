"""The page's picture by WebRTC, and without it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from streamdeblur.live.newest import Newest
from streamdeblur.live.serve import ServeSink
from tests.live.visitors import Network, ask, post
from tests.patience import eventually


def test_without_aiortc_there_is_mjpeg_and_a_word_about_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "streamdeblur.live.webrtc", None)
    with ServeSink(Network()) as sink:
        assert "pip install 'streamdeblur[serve]'" in sink.notices[0]
        assert json.loads(ask(sink)[1])["webrtc"] is False
        assert post(sink, "/offer", {"sdp": "v=0"})[0] == 503


def offered() -> str:
    """What a browser would say that wants to watch."""
    aiortc = pytest.importorskip("aiortc")

    async def offer() -> str:
        connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        connection.addTransceiver("video", direction="recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        sdp: str = connection.localDescription.sdp
        await connection.close()
        return sdp

    return asyncio.run(offer())


def test_webrtc_uses_the_servers_own_address_and_a_codec_of_every_browser(
    sink: ServeSink,
) -> None:
    hidden = "a=candidate:1 1 udp 1 0a-b.local 5000 typ host\r\n"
    status, answer = post(sink, "/offer", {"sdp": offered() + hidden})
    assert status == 200
    lines = json.loads(answer)["sdp"].splitlines()
    candidates = [line.split() for line in lines if line.startswith("a=candidate:")]
    assert {words[4] for words in candidates} == {"127.0.0.1"}
    assert {words[7] for words in candidates} == {"host"}
    codecs = {line.split()[1].split("/")[0] for line in lines if line.startswith("a=rtpmap:")}
    assert codecs == {"VP8", "rtx"}


def test_webrtc_offers_are_limited_and_forgotten_when_nobody_comes(
    sink: ServeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiortc")
    monkeypatch.setattr("streamdeblur.live.webrtc.MOST_PEERS", 2)
    monkeypatch.setattr("streamdeblur.live.webrtc._SECONDS_TO_CONNECT", 2.0)
    offer = {"sdp": offered()}
    assert [post(sink, "/offer", offer)[0] for _ in range(3)] == [200, 200, 503]
    assert json.loads(ask(sink)[1])["webrtc"] is False  # so that the page asks for MJPEG
    eventually(lambda: json.loads(ask(sink)[1])["webrtc"] is True, "offers are never forgotten")


def test_a_connection_that_is_being_closed_at_the_end_is_closed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cancelled in the middle of it, it would keep its sockets."""
    aiortc = pytest.importorskip("aiortc")
    webrtc = pytest.importorskip("streamdeblur.live.webrtc")
    monkeypatch.setattr(webrtc, "_SECONDS_TO_CONNECT", 0.05)
    offer, close = offered(), aiortc.RTCPeerConnection.close
    steps: list[str] = []

    async def close_slowly(connection: Any) -> None:
        if not steps:
            steps.append("begun")
            await asyncio.sleep(0.3)
            steps.append("half")
        await close(connection)
        steps.append("closed")

    monkeypatch.setattr(aiortc.RTCPeerConnection, "close", close_slowly)

    async def scenario() -> None:
        peers = webrtc.Peers(Newest(), "127.0.0.1")
        await peers.answer(offer)
        while not steps:
            await asyncio.sleep(0.01)
        await peers.close()
        await asyncio.sleep(0.4)

    asyncio.run(scenario())
    assert "half" in steps


@pytest.mark.parametrize("sdp", ["", "v=0", "hello", "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"])
def test_webrtc_offers_that_are_none_are_refused(sink: ServeSink, sdp: str) -> None:
    pytest.importorskip("aiortc")
    assert post(sink, "/offer", {"sdp": sdp})[0] == 400
    assert json.loads(ask(sink)[1])["webrtc"] is True


def test_webrtc_may_use_the_network_for_a_sharp_picture() -> None:
    pytest.importorskip("aiortc")
    from aiortc.codecs.vpx import Vp8Encoder

    import streamdeblur.live.webrtc  # noqa: F401

    encoder = Vp8Encoder()
    assert encoder.target_bitrate == 4_000_000
    encoder.target_bitrate = 15_000_000
    assert encoder.target_bitrate == 15_000_000
