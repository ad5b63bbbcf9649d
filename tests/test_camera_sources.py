"""Where a camera's frames come from: files, directories, a network camera on a real socket; and what goes wrong."""
import http.server
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from device.eyes import frames, live, sources
from device.eyes.frames import Directory, Frame, SourceError, VideoFile
from device.eyes.live import Live
from tests import drawn_people
from tests.bridge_rig import until


def all_of(source: Directory | VideoFile | Live) -> list[Frame]:
    return [frame for frame in source.frames(threading.Event()) if frame is not None]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "ten.avi"
    drawn_people.write(path, [np.full((48, 64, 3), 20 * number, np.uint8) for number in range(10)])
    return path


def test_a_file_gives_every_frame_in_order_with_its_own_time(video: Path) -> None:
    found = all_of(VideoFile(str(video)))
    assert [round(frame.image.mean() / 20) for frame in found] == list(range(10))
    assert [(frame.number, round(frame.at_s, 3)) for frame in found][::9] == [(1, 0.1), (10, 1.0)]


def test_a_directory_gives_its_images_by_name_and_nothing_else(tmp_path: Path) -> None:
    for name, value in (("b.png", 60), ("a.JPG", 20), ("c.jpeg", 100)):
        cv2.imwrite(str(tmp_path / name), np.full((32, 32, 3), value, np.uint8))
    (tmp_path / "notes.txt").write_text("x")
    assert [round(frame.image.mean()) for frame in all_of(Directory(str(tmp_path)))] == [20, 60, 100]


def test_a_damaged_file_is_read_to_where_it_breaks_and_said_to_be_damaged(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.avi", tmp_path / "broken.avi"
    noise = np.random.default_rng(1).integers(0, 255, (10, 120, 160, 3), np.uint8)
    drawn_people.write(whole, list(noise))
    broken.write_bytes(whole.read_bytes()[:whole.stat().st_size * 6 // 10])
    source = VideoFile(str(broken))
    found: list[Frame | None] = []
    with pytest.raises(SourceError, match=r"broken.avi is damaged: got \d frames, expected 10"):
        found.extend(source.frames(threading.Event()))
    assert 1 <= len(found) < 10


@pytest.mark.parametrize(("make", "said"), [
    (lambda path: None, "no file .*expected a video file"),
    (lambda path: path.write_text("not a film"), "cannot be read as a video: got 10 bytes beginning with b'not a"),
    (lambda path: path.mkdir(), "no image in .*got 0 other files"),
])
def test_what_is_no_film_is_refused_in_words(make: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    make(path)
    with pytest.raises(SourceError, match=said):
        all_of(sources.opened(str(path)))


def test_a_broken_image_in_a_directory_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "2.png").write_bytes(b"oops")
    found: list[Frame | None] = []
    with pytest.raises(SourceError, match=r"2\.png cannot be read as an image: got 4 bytes.*the 1 before"):
        found.extend(Directory(str(tmp_path)).frames(threading.Event()))
    assert len(found) == 1


@pytest.mark.parametrize(("environ", "marker", "contained"), [
    ({}, False, None), ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False, "KUBERNETES_SERVICE_HOST"),
    ({"container": "podman"}, False, "container=podman"), ({}, True, "dockerenv"),
])
def test_a_container_is_known_and_has_no_cameras(environ: dict[str, str], marker: bool, contained: str | None,
                                                 tmp_path: Path) -> None:
    if marker:
        (tmp_path / "dockerenv").touch()
    found = sources.container(environ, str(tmp_path / "dockerenv"))
    if contained is None:
        assert found is None and sources.fault("0", found) is None
        return
    assert found and contained in found
    fault = sources.fault("0", found)
    assert fault and found in fault and "rtsp://" in fault
    assert [sources.fault(source, found) for source in ("simulated", "a.avi", "rtsp://c/1")] == [None] * 3


def test_an_unknown_scheme_is_refused() -> None:
    fault = sources.fault("ftp://host/x", None)
    assert fault and "ftp://" in fault and "rtsp://" in fault


def test_a_password_in_an_address_is_not_shown() -> None:
    assert live.shown("rtsp://me:secret@10.0.0.9:554/1") == "rtsp://me:***@10.0.0.9:554/1"
    assert live.shown("rtsp://10.0.0.9/1") == "rtsp://10.0.0.9/1"


class Reel:
    """A camera that gives these frames, one by one when `turn` lets it, then is lost."""

    def __init__(self, values: list[int], turn: threading.Semaphore, there: bool = True) -> None:
        self._values, self._turn, self._there = values, turn, there

    def isOpened(self) -> bool:
        return self._there

    def read(self) -> tuple[bool, np.ndarray]:
        self._turn.acquire()
        there = bool(self._values)
        return there, np.full((2, 2, 3), self._values.pop(0) if there else 0, np.uint8)

    def release(self) -> None:
        self._there = False


def test_frames_that_come_while_one_is_looked_at_are_dropped_and_counted() -> None:
    turn, stopping = threading.Semaphore(0), threading.Event()
    source = Live("reel", lambda: Reel([1, 2, 3, 4, 5], turn), "")
    looking = source.frames(stopping)
    turn.release()
    assert value_of(looking) == 1
    for _ in range(4):
        turn.release()
    until(lambda: source.dropped == 3, "three of four frames to be dropped")
    assert value_of(looking) == 5, "the newest"
    assert source.dropped == 3
    stopping.set()
    turn.release(1000)


def value_of(looking: Iterator[Frame | None]) -> int:
    """The next frame's value, however often there is none yet."""
    return int(next(frame.image[0, 0, 0] for frame in looking if frame is not None))


def test_a_lost_camera_is_opened_again_until_it_is_back(monkeypatch: pytest.MonkeyPatch,
                                                        caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(live, "FIRST_DELAY_S", 0.01)
    turn, stopping = threading.Semaphore(1000), threading.Event()
    reels = [Reel([1], turn), Reel([], turn, there=False), Reel([], turn), Reel([2], turn)]
    source = Live("reel", lambda: reels.pop(0) if reels else Reel([], turn, there=False), "must be there at first")
    looking = source.frames(stopping)
    assert [value_of(looking), value_of(looking)] == [1, 2]
    assert source.reconnects == 1
    stopping.set()
    assert len([line for line in caplog.messages if "was lost" in line]) >= 1


def test_a_camera_that_was_never_there_is_an_error() -> None:
    source = Live("7", lambda: Reel([], threading.Semaphore(9), there=False), "expected camera number 7")
    with pytest.raises(SourceError, match="camera 7 gives no picture; expected camera number 7"):
        value_of(source.frames(threading.Event()))


def test_a_camera_that_this_machine_lacks_is_named_with_what_to_look_at() -> None:
    source = sources.opened("63")
    assert isinstance(source, Live)
    with pytest.raises(SourceError, match="camera 63 gives no picture; expected camera number 63 on this machine: "):
        value_of(source.frames(threading.Event()))


def test_a_fault_of_the_reading_thread_is_not_kept_from_us() -> None:
    def broken() -> Reel:
        raise PermissionError("no")
    with pytest.raises(PermissionError):
        value_of(Live("x", broken, "").frames(threading.Event()))


class Mjpeg(http.server.BaseHTTPRequestHandler):
    """A network camera: three pictures in each connection, then it hangs up."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for value in (40, 120, 200):
            picture = cv2.imencode(".jpg", np.full((48, 64, 3), value, np.uint8))[1].tobytes()
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
                             % (len(picture), picture))
            time.sleep(0.05)

    def log_message(self, *_: object) -> None:
        """Nothing to say."""


def test_a_network_camera_is_read_and_found_again_after_it_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_DELAY_S", 0.05)
    stopping = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mjpeg) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = sources.opened(f"http://127.0.0.1:{server.server_address[1]}/camera.mjpg")
        assert isinstance(source, Live) and source.live
        deadline_s, seen = time.monotonic() + 60, 0
        for frame in source.frames(stopping):
            seen += frame is not None
            assert time.monotonic() < deadline_s
            if seen >= 4 and source.reconnects:
                break
        stopping.set()
        server.shutdown()


def test_files_are_not_live_and_drop_nothing(video: Path) -> None:
    source = VideoFile(str(video))
    assert (source.live, source.dropped, source.reconnects) == (False, 0, 0)
    assert frames.IMAGES[0] == ".jpg"
