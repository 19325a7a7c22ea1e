"""The errors that a user can cause or fix.

StreamDeblurError
├── ModelError   the model file, or what should run it
└── VideoError   the video, camera or output file
    └── ReaderLeft   who read standard output is gone

Library code raises these with one line that says what failed, on what, and what to do; it never
prints and never exits. What no caller has a remedy for ends in `cli.main`.
"""


class StreamDeblurError(Exception):
    """Base of every error that a user can cause or fix."""


class ModelError(StreamDeblurError):
    """The model is missing, broken, not one of ours, or cannot run on the device asked for."""


class VideoError(StreamDeblurError):
    """A video, camera or output cannot be opened, read or written."""


class ReaderLeft(VideoError):  # noqa: N818 (as with `head`, it is no failure)
    """The program that read standard output is gone."""
