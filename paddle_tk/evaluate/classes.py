"""Does a dataset have the classes that a model knows?"""

from __future__ import annotations

from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.errors import BadInput, some
from paddle_tk.types import ModelArtifact


def check_classes(artifact: ModelArtifact, bundle: DatasetBundle) -> None:
    """Refuses a dataset of another task, or whose classes are not the model's, in the model's order.

    Raises:
        BadInput: The message lists the differences.
    """
    if artifact.task.kind != bundle.kind:
        raise BadInput(
            f"the model is for {artifact.task.kind}, dataset {bundle.name} is for {bundle.kind}",
            f"evaluate on a dataset for {artifact.task.kind}",
        )
    known, found = artifact.task.classes, bundle.classes
    if known == found:
        return
    only_model = [name for name in known if name not in found]
    only_data = [name for name in found if name not in known]
    told = [f"only in the model: {some(only_model)}"] * bool(only_model)
    told += [f"only in the dataset: {some(only_data)}"] * bool(only_data)
    raise BadInput(
        f"class mismatch: the model knows {len(known)} classes, dataset {bundle.name} has {len(found)}; "
        + ("; ".join(told) or f"their order differs ({some(list(known))} against {some(list(found))})"),
        "evaluate on a dataset with the model's classes, or train a model for this one",
    )
