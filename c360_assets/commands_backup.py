"""Commands for the state of a home: `c360 backup`, `c360 restore`."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

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
    """Who was forgotten since the backup was made stays forgotten, wherever that is known."""
    source = options.source.absolute()
    manifest = backups.checked(source)
    from c360_assets import runs
    from c360_assets.remembering import Memory, forget_again

    if back := backups.put_back(settings.home):
        say(f"a restore was broken off: {back} is in its place again")
    # Homes that may know of persons whom the backup does not know to be forgotten.
    made_of = Path(manifest.get("home", settings.home))
    knowing = {*([settings.home] if options.replace else []), *([made_of] if made_of.is_dir() else [])}
    if not made_of.is_dir() and not settings.s3_endpoint:
        say(f"{made_of}, of which it is a backup, is not here: forget again whoever was forgotten there since "
            f"{manifest['made_at']}")  # fmt: skip
    memories = [memory for home in sorted(knowing) if (memory := Memory.of(replace(settings, home=home)))]
    again = False

    def finish(made: Path) -> None:
        nonlocal again
        again = forget_again(replace(settings, home=made), memories, say)

    aside = backups.restore(settings, source, replaces=options.replace, finish=finish)
    if aside is not None:
        say(f"what was there is in {aside} now")
    if settings.warehouse == "duckdb":
        with local.embedded_s3(settings):
            local.landing_bucket(settings).ensure()
            with local.dagster_instance(settings) as instance:
                # What ran when it was copied runs nowhere.
                local.reap(instance, settings.spool, alone=True)
                code = runs.sync(settings, instance, rebuild=True, say=say) if again else DONE
            if code != DONE:
                return code
    shutil.rmtree(settings.spool, ignore_errors=True)
    print(f"{settings.home} is as it was at {manifest['made_at']}; c360 sync goes on from there")
    return DONE
