"""The course: what its notebooks call (lessons.py), toy tasks, checks, demo, runner, pages, labs.

    from csam_lite import course
    dataset = course.load_dataset("phantom")
"""

from csam_lite.course.drawing import draw_stack
from csam_lite.course.lessons import (
    CourseScan,
    data_folder,
    load_dataset,
    load_network,
    load_scan,
    match_channels,
    network_input,
)

__all__ = [
    "CourseScan", "data_folder", "draw_stack", "load_dataset", "load_network", "load_scan",
    "match_channels", "network_input",
]
