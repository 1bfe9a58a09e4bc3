"""The course: what its notebooks call (lessons.py), toy tasks, checks, demo, runner, pages, labs.

    from csam_lite import course
    dataset = course.load_dataset("phantom")
"""

from csam_lite.course.drawing import GATE_COLOURS, GATE_MAPS, draw_stack
from csam_lite.course.gate_pictures import (
    plot_along,
    plot_channels,
    plot_decoration,
    plot_gate_rows,
    plot_positional,
    plot_slice_gate,
    plot_uncertainty,
)
from csam_lite.course.lessons import (
    CourseScan,
    comparison_plan,
    data_folder,
    load_dataset,
    load_network,
    load_scan,
    match_channels,
    network_input,
    unseen_cases,
)
from csam_lite.course.number_pictures import plot_lines, plot_pairs, plot_resampled, plot_trainings
from csam_lite.course.own_code import my_csam, my_formulas, run_formula, yours_or_ours
from csam_lite.course.pictures import (
    plot_alike,
    plot_arrays,
    plot_bars,
    plot_change,
    plot_cut,
    plot_depth,
    plot_doubt,
    plot_drawn_stacks,
    plot_neighbours,
    plot_one_draw,
    plot_placed,
    plot_side_views,
    plot_tables,
    plot_thickness,
    plot_toy_stack,
)
from csam_lite.course.progress import show_exercises
from csam_lite.course.readers_scan import MyScan, fine_tune, my_scan, network_for, read_mine, write_turned
from csam_lite.course.tables import show_table
from csam_lite.course.toy_pictures import (
    plot_alarms,
    plot_areas,
    plot_curves,
    plot_growth,
    plot_influence,
    plot_kernels,
    plot_levels,
    plot_plane,
    plot_row,
    plot_slices,
    plot_spread,
    plot_start,
    plot_training,
    plot_two_gates,
)

__all__ = [
    "GATE_COLOURS", "GATE_MAPS", "CourseScan", "MyScan", "comparison_plan", "data_folder", "draw_stack",
    "fine_tune", "load_dataset", "load_network", "load_scan", "match_channels",
    "my_csam", "my_formulas", "my_scan", "network_for", "network_input", "plot_alarms", "plot_alike",
    "plot_along", "plot_areas", "plot_arrays", "plot_bars", "plot_change", "plot_channels",
    "plot_curves", "plot_cut", "plot_decoration", "plot_depth", "plot_doubt", "plot_drawn_stacks",
    "plot_gate_rows", "plot_growth", "plot_influence", "plot_kernels", "plot_levels", "plot_lines",
    "plot_neighbours", "plot_one_draw", "plot_pairs", "plot_placed", "plot_plane", "plot_positional",
    "plot_resampled", "plot_row", "plot_side_views", "plot_slice_gate", "plot_slices", "plot_spread",
    "plot_start", "plot_tables", "plot_thickness", "plot_toy_stack", "plot_training", "plot_trainings",
    "plot_two_gates", "plot_uncertainty", "read_mine", "run_formula", "show_exercises", "show_table",
    "unseen_cases", "write_turned", "yours_or_ours",
]
