"""The look-back of every position."""

from numba import njit


@njit(cache=True, nogil=True)
def fill_windows(ids, starts, first, fill, out):
    """Ids of ``out.shape[1]`` positions from ``first`` on and of those before them.

    ids: uint32 [T]; starts: int64 [T], the oldest position in reach of each; first: int64;
    fill: uint32, what stands for ids out of reach; out: uint32 [N, C], row s = s places back.
    """
    max_order, num_positions = out.shape
    for i in range(num_positions):
        p = first + i
        reach = p - starts[p]
        for s in range(max_order):
            out[s, i] = ids[p - s] if s <= reach else fill


@njit(cache=True, nogil=True)
def interleave(columns, out):
    """Rows of all tables side by side, written in the order they lie in memory.

    columns: uint32 [E, any >= C]; out: int64 [C, E].
    """
    num_positions, num_tables = out.shape
    for i in range(num_positions):
        for table in range(num_tables):
            out[i, table] = columns[table, i]
