"""All of bonepipe and what it imports: the server that commands are forked from starts with it."""

import importlib
import pkgutil

import bonepipe

for module in pkgutil.walk_packages(bonepipe.__path__, "bonepipe."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
