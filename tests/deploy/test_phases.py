from __future__ import annotations

import io

from dad_edge.deploy.phases import BuildLog, Phases


def test_steps_of_inner_phases_count_as_parts_of_the_outer_step() -> None:
    phases = Phases()
    phases.start("Building", None, 4)
    phases.step("Building", 0)
    assert phases.share == 0.25
    phases.start("Timing", "Building", 2)
    phases.step("Timing", 0)
    assert phases.share == 0.375
    phases.finish("Timing")
    phases.step("Building", 1)
    assert phases.share == 0.5
    phases.finish("Building")
    assert phases.share == 1.0


def test_the_share_never_falls_and_unknown_phases_do_no_harm() -> None:
    phases = Phases()
    phases.start("Building", None, 2)
    phases.start("Timing", "Building", 0)
    phases.step("Timing", 7)
    before = phases.share
    phases.start("Timing", "Building", 100)
    phases.step("Timing", 0)
    phases.step("never started", 3)
    assert phases.share == before == 0.5


def test_the_log_is_bounded_but_keeps_every_error() -> None:
    file = io.StringIO()
    log = BuildLog(file)
    for _ in range(3000):
        log.note("x" * 99)
    log.note("late", warning=True)
    log.problem("Out of\n  memory.")
    log.close()
    text = file.getvalue()
    assert len(text) < log.LIMIT + 500
    assert "late" not in text
    assert "error: Out of\n  memory.\n" in text
    assert text.endswith("more messages were left out\n")


def test_the_list_of_layers_is_kept_and_the_other_details_are_not() -> None:
    file = io.StringIO()
    log = BuildLog(file)
    for message in ("a tactic", "Layers:\nName: a, LayerType: kgen, ", "another tactic"):
        log.detail(message)
    assert log.layers.startswith("Layers:")
    assert file.getvalue() == ""


def test_warnings_are_marked() -> None:
    file = io.StringIO()
    log = BuildLog(file)
    log.note("slow kernel", warning=True)
    log.close()
    assert file.getvalue() == "warning: slow kernel\n"
