"""Prints the medians of operations, and the ratios of two stores."""

from statistics import median


def report(times, names, pairs):
    """Print the median of each operation in milliseconds, and for each pair the median over the rounds of the ratio.

    Args:
        times: For each store the seconds of each operation in each round: `{store: [{operation: seconds}]}`.
        names: The operations.
        pairs: Two stores each, whose ratio is printed.
    """
    print(f"{'ms':48}" + "".join(f"{name:>9}" for name in names))
    for store, rounds in times.items():
        print(f"{store:48}" + "".join(f"{median(one[name] for one in rounds) * 1e3:9.2f}" for name in names))
    for ours, theirs in pairs:
        ratios = [median(a[name] / b[name] for a, b in zip(times[ours], times[theirs])) for name in names]
        print(f"{ours + ' / ' + theirs:48}" + "".join(f"{ratio:9.2f}" for ratio in ratios))
