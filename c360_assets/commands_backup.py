"""Commands for the state of a home: `c360 backup`, `c360 restore`."""

from __future__ import annotations

import argparse
import shutil

from c360_assets import backup as backups
from c360_assets import local
from c360_assets.cli import DONE, say
from c360_assets.settings import Settings
from c360_assets.warehouse import open_warehouse


def backup(options: argparse.Namespace, settings: Settings) -> int:
    told = backups.back_up(settings, open_warehouse(settings, announce=say), options.to.absolute())
    size = sum(file["size"] for file in told["files"].values())
    print(f"{options.to}: {len(told['files'])} files, {size / 1e6:.1f} MB, of {told['made_at']}")
    for other in told["elsewhere"]:
        say(f"not in it, {other}")
    return DONE


def restore(options: argparse.Namespace, settings: Settings) -> int:
    """Who was forgotten since the backup was made stays forgotten."""
    source = options.source.absolute()
    backups.checked(source)
    from c360_assets.forgetting import Memory, forget_again

    # Of the home that is put aside, which may know of persons that the backup does not know to be forgotten.
    memory = Memory.of(settings) if options.replace else None
    aside = backups.restore(settings, source, replaces=options.replace)
    if aside is not None:
        say(f"what was there is in {aside} now")
    if settings.warehouse == "duckdb":
        with local.embedded_s3(settings):
            local.landing_bucket(settings).ensure()
            with local.dagster_instance(settings) as instance:
                # What ran when it was copied runs nowhere.
                local.reap(instance, settings.spool, alone=True)
            code = forget_again(settings, memory, say)
            if code != DONE:
                return code
    shutil.rmtree(settings.spool, ignore_errors=True)
    print(f"{settings.home} is as it was at {backups.checked(source)['made_at']}; c360 sync goes on from there")
    return DONE
