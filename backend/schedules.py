"""Named functions of progress in [0, 1]."""


def linear(start: float, end: float, progress: float) -> float:
    """From start to end, staying at the end once progress has passed 1."""
    return start + (end - start) * min(max(progress, 0.0), 1.0)


def after(onset: float, progress: float) -> float:
    """0 before the onset, 1 from it on."""
    return 1.0 if progress >= onset else 0.0


def between(start: float, end: float, progress: float) -> float:
    """0 up to start, 1 from end on, a straight line in between; a jump where start is end."""
    if progress >= end:
        return 1.0
    return 0.0 if progress <= start else (progress - start) / (end - start)
