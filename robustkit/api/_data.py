"""The data of a configuration: in memory, by name, or already a dataset."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from robustkit import data
from robustkit.base.errors import UserError
from robustkit.study.options_run import Data

C = TypeVar("C", bound=Data)


def with_data(config: C) -> C:
    """Return the configuration with data in memory made a dataset."""
    if isinstance(config.dataset, str):
        return config
    if config.image_size is not None:
        raise UserError(f"image size {config.image_size} cannot be set for data in memory; leave image_size out.")
    return replace(config, dataset=data.in_memory(config.dataset))


def loader(config: Data) -> Callable[[str], data.Dataset]:
    return functools.partial(
        data.load, data_dir=config.data_dir, download=config.download, image_size=config.image_size
    )


def loaded(config: Data) -> data.Dataset:
    return loader(config)(config.dataset) if isinstance(config.dataset, str) else config.dataset
