"""Equations 12 and 13 of the paper and the step decay, as plain Python."""


def linear(t, init_value, total, final_scale=0.01):
    """Equation 12: constant, linear decay from half of T to 0.9 T, constant."""
    x = t / total
    if x <= 0.5:
        return init_value
    if x <= 0.9:
        return init_value * (1 - (1 - final_scale) * (x - 0.5) / 0.4)
    return init_value * final_scale


def averaging(t, init_value, start, averaging_value=None):
    """Equation 13, the middle branch relative to T_avg as well."""
    if averaging_value is None:
        averaging_value = init_value / 2
    x = t / start
    if x <= 0.5:
        return init_value
    if x <= 0.9:
        return init_value * (1 - (1 - averaging_value / init_value) * (x - 0.5) / 0.4)
    return averaging_value


def step(t, init_value, boundaries, scale=0.1):
    """``init_value`` times ``scale`` for every boundary reached."""
    return init_value * scale ** sum(t >= b for b in boundaries)
