"""The examples in the docstrings of the library are right."""

import doctest
import importlib
import pkgutil

import pytest

import musicgen

MODULES = sorted(module.name for module in pkgutil.walk_packages(musicgen.__path__, "musicgen."))


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_right(name):
    result = doctest.testmod(importlib.import_module(name))
    assert not result.failed
