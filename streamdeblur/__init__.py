"""Removes motion blur from video files and live cameras."""
