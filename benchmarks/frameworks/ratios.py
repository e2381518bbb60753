"""Prints the times of operations, and the ratios of two stores."""

from statistics import median


def report(times, names, pairs):
    """Print the median and the fastest time of each operation in milliseconds, and the ratios of each pair.

    The first ratio is the median over the rounds of the ratio within a round.  The second one is that of the fastest
    times, on which other work on the machine has the least influence.

    Args:
        times: For each store the seconds of each operation in each round: `{store: [{operation: seconds}]}`.
        names: The operations.
        pairs: Two stores each, whose ratio is printed.
    """
    for title, chosen in (("median ms", median), ("fastest ms", min)):
        print(f"{title:48}" + "".join(f"{name:>9}" for name in names))
        for store, rounds in times.items():
            print(f"{store:48}" + "".join(f"{chosen(one[name] for one in rounds) * 1e3:9.2f}" for name in names))
    print(f"{'ratio: median, of the fastest':48}" + "".join(f"{name:>13}" for name in names))
    for ours, theirs in pairs:
        ratios = [(_median(times, ours, theirs, name), _fastest(times, ours, theirs, name)) for name in names]
        print(f"{ours + ' / ' + theirs:48}" + "".join(f"{a:7.2f}{b:6.2f}" for a, b in ratios))


def _median(times, ours, theirs, name):
    return median(a[name] / b[name] for a, b in zip(times[ours], times[theirs]))


def _fastest(times, ours, theirs, name):
    return min(one[name] for one in times[ours]) / min(one[name] for one in times[theirs])
