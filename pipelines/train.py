"""DVC stage ``train``: prepared masks -> one shape model, as its recipe says.

python -m pipelines.train <recipe>
"""

import sys
from pathlib import Path

from cardiac_vae import tracking
from cardiac_vae.config import read_section
from cardiac_vae.training.fit import FitConfig
from cardiac_vae.training.module import ObjectiveConfig
from cardiac_vae.training.shapes import Recipe, train_shape_model
from pipelines.stage import run

PARAMS = Path("configs/params.yaml")


def main() -> None:
    """Run the stage for the recipe named on the command line."""
    [name] = sys.argv[1:]
    recipe = Recipe.read(Path(f"configs/models/{name}.yaml"))
    data = read_section(PARAMS, "data")["name"]
    params = read_section(PARAMS, "train")
    params["objective"] = params["objective"] | recipe.objective
    where = f"{PARAMS}: train.objective, or configs/models/{name}.yaml: objective"
    objective = ObjectiveConfig.parse(params["objective"], where)
    config = FitConfig.parse(params["fit"], f"{PARAMS}: train.fit")
    logged = {"recipe": recipe.model_dump(), **params}
    with tracking.stage_run("train", logged, {"model": name, "data": data}):
        summary = train_shape_model(
            Path("data/prepared"),
            Path("models") / name,
            recipe,
            objective,
            config,
            tracking.lightning_logger(),
        )
        tracking.record_metrics(Path(f"reports/train/{name}.json"), summary)


if __name__ == "__main__":
    run(main)
