"""What fitting the mixture costs per code by CAVI and SVI, in one run, as ratios.

python -m benchmarks.variational [--codes 1000000] [--runs 5] [--threads N]

Codes are drawn from a mixture of ten normals in 16 dimensions, in blocks from a generator. CAVI
holds them all and takes one sweep; SVI sees each block once, as it comes, and holds no other. Times
are of codes that lie in memory, a hundred thousand of them; peak memory is that of a process that
does the whole once, with all codes and with a tenth of them.
"""

import argparse
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.measuring import (
    limit_threads,
    machine,
    median_seconds,
    options,
    peak_memory_mb,
    table,
)
from cardiac_vae.vi.cavi import Cavi, CaviConfig
from cardiac_vae.vi.fitting import Fit, FitConfig, fit
from cardiac_vae.vi.mixture import MixturePrior
from cardiac_vae.vi.svi import Svi, SviConfig

SIZE, COMPONENTS, BATCH = 16, 10, 1000
TIMED = 100_000
STARTED = "neither, the first block"
"""What all peaks are compared with: the process with its libraries and one block of codes."""


def stream(num_codes: int) -> Iterator[np.ndarray]:
    """Yield blocks of codes (BATCH, SIZE) of a known mixture; always the same ones."""
    rng = np.random.default_rng(0)
    centers = 3 * rng.standard_normal((COMPONENTS, SIZE))
    for _ in range(num_codes // BATCH):
        yield centers[rng.integers(COMPONENTS, size=BATCH)] + rng.standard_normal((BATCH, SIZE))


def prior() -> MixturePrior:
    """Return a prior that a first block suggests."""
    return MixturePrior.of(next(stream(BATCH)), concentration=1 / COMPONENTS)


def cavi() -> Cavi:
    """Return the coordinate ascent that is measured."""
    return Cavi(prior(), CaviConfig(num_components=COMPONENTS))


def svi(num_codes: int) -> Svi:
    """Return the stochastic fit that is measured."""
    return Svi(prior(), SviConfig(num_components=COMPONENTS, num_codes=num_codes))


def passes(num_codes: int) -> dict[str, Callable[[], object]]:
    """Return one pass of each method over codes that lie in memory, by name."""
    blocks = list(stream(num_codes))
    codes = np.concatenate(blocks)
    of_cavi, of_svi = cavi(), svi(num_codes)
    swept = of_cavi.init(codes, torch.Generator().manual_seed(0))
    stepped = of_svi.init(blocks[0], torch.Generator().manual_seed(0))

    def svi_pass(with_bounds: bool) -> None:
        state = stepped
        for block in blocks:
            if with_bounds:
                of_svi.elbo(state, block)
            state = of_svi.step(state, block)

    return {
        "CAVI, a sweep and its bound": lambda: of_cavi.elbo(of_cavi.step(swept, codes), codes),
        "SVI, the steps of a pass": lambda: svi_pass(False),
        "SVI, with the bound of each batch": lambda: svi_pass(True),
    }


def whole(method: str, num_codes: int) -> Fit:
    """Return a fit from nothing to one pass over all codes; what the peak memory is taken of."""
    generator = torch.Generator().manual_seed(0)
    if method == "svi":
        config = FitConfig(window=num_codes, max_steps=num_codes // BATCH)
        return fit(svi(num_codes), stream(num_codes), config, generator)
    codes = next(stream(num_codes)) if method == "none" else _in_memory(num_codes)
    return fit(cavi(), codes, FitConfig(max_steps=1), generator)


def _in_memory(num_codes: int) -> np.ndarray:
    codes = np.empty((num_codes // BATCH * BATCH, SIZE))
    for number, block in enumerate(stream(num_codes)):
        codes[number * BATCH : (number + 1) * BATCH] = block
    return codes


def main() -> None:
    """Measure and print."""
    parser = options("Cost per code of fitting the mixture.", runs=5)
    parser.add_argument("--codes", type=int, default=1_000_000, help="of the larger cohort")
    parser.add_argument("--only", choices=("cavi", "svi", "none"), help="fit once, print nothing")
    args = parser.parse_args()
    limit_threads(args.threads)
    if args.only:
        whole(args.only, args.codes)
        return
    print(machine())
    print(f"{COMPONENTS} components, {SIZE} dimensions, batches of {BATCH}")
    seconds = median_seconds(passes(TIMED), args.runs)
    sweep = next(iter(seconds.values()))
    rows = [
        (name, f"{1e6 * value / TIMED:.2f}", f"{value / sweep:.2f}")
        for name, value in seconds.items()
    ]
    print(table(("one pass", "us per code", "sweeps"), rows))
    print(table(("peak memory", "codes", "MiB", "over neither", "bytes per code"), _peaks(args)))


def _peaks(args: argparse.Namespace) -> list[tuple[str, ...]]:
    def peak(method: str, num_codes: int) -> float:
        command = [sys.executable, "-m", "benchmarks.variational", "--only", method]
        return peak_memory_mb([*command, "--codes", str(num_codes)], args.threads)

    least = peak("none", BATCH)
    rows = [(STARTED, str(BATCH), f"{least:.0f}", "1.00", "")]
    for method in ("cavi", "svi"):
        for num_codes in (args.codes // 10, args.codes):
            found = peak(method, num_codes)
            more = 2**20 * (found - least) / num_codes
            row = (method.upper(), str(num_codes), f"{found:.0f}", f"{found / least:.2f}")
            rows.append((*row, f"{more:.0f}"))
    return rows


if __name__ == "__main__":
    main()
