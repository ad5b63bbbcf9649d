"""The arithmetic of an isolation forest in one dimension: called by isolation_forest.py, compiled by it where numba is.

These functions are scikit-learn's IsolationForest for one column of at most 256 rows, where every tree is grown on
all rows: same draws, same thresholds, same order of additions. They are plain Python on anything that can be indexed
(numpy arrays when compiled, lists when not), so that both ways run this very source. All values are already rounded
to 32 bits, as scikit-learn rounds its input.

A tree in one dimension is a step function: the thresholds in ascending order, and a path length for each stretch
between them. A forest lies in three flat buffers: the thresholds of tree t are thresholds[bounds[t]:bounds[t + 1]], its
path lengths (one more than it has thresholds) begin at lengths[bounds[t] + t].
"""
from bisect import bisect_left, bisect_right

LARGEST_DRAW = 2147483647.0


def grow(window, ceilings, tables, forest, sums, waiting):  # type: ignore[no-untyped-def]
    """Grow all trees on a window, ascending.

    ceilings[i]: up to which value a node that begins with window[i] counts as constant. tables: (draws, draws_per_tree,
    average, depth_limits): random numbers for each tree; by the number of values, the mean path length below a leaf
    and the greatest depth. forest: (bounds, thresholds, lengths), written. sums: the path sums of the window's own
    values, written unless it is empty. waiting: room for right sides that wait, three figures for each level.
    """
    draws, draws_per_tree, average, depth_limits = tables
    bounds, thresholds, lengths = forest
    n = len(window)
    depth_limit, placed = depth_limits[n], 0
    for tree in range(len(bounds) - 1):
        bounds[tree] = placed
        draw = tree * draws_per_tree
        start, end, depth, pending, threshold = 0, n, 0, 0, 0.0
        while True:  # depth first, left side first: leaves and thresholds come in ascending order
            split = end
            if depth < depth_limit and end - start > 1:
                draw += 1  # scikit-learn draws which feature to split by, of one
                low, high = window[start], window[end - 1]
                if high > ceilings[start]:
                    threshold = (high - low) * draws[draw] / LARGEST_DRAW + low
                    draw += 1
                    if threshold == high:
                        threshold = low
                    split = bisect_right(window, threshold, start, end)
            if start < split < end:
                depth += 1
                waiting[pending] = end
                waiting[pending + 1] = depth
                waiting[pending + 2] = threshold
                pending += 3
                end = split
                continue
            length = (depth + 1 + average[end - start]) - 1.0  # in this order: the rounding is part of the result
            lengths[placed + tree] = length
            if len(sums):
                for i in range(start, end):
                    sums[i] = length if tree == 0 else sums[i] + length
            if pending == 0:
                break
            pending -= 3
            start, end, depth = end, int(waiting[pending]), int(waiting[pending + 1])
            thresholds[placed] = waiting[pending + 2]
            placed += 1
    bounds[len(bounds) - 1] = placed


def add_paths(values, forest, sums):  # type: ignore[no-untyped-def]
    """Write into sums, for each value, its path lengths added up over the trees in their order."""
    bounds, thresholds, lengths = forest
    for i in range(len(values)):
        value, total = values[i], 0.0
        for tree in range(len(bounds) - 1):
            total += lengths[bisect_left(thresholds, value, bounds[tree], bounds[tree + 1]) + tree]
        sums[i] = total
