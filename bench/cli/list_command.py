"""`bench list`."""

from __future__ import annotations

import click

from bench.cli.options import plugin_option

_KINDS = ("attacks", "defenses", "evaluators", "datasets", "models", "recipes")


@click.command("list")
@click.argument("kind", required=False, type=click.Choice(_KINDS), metavar="[KIND]")
@plugin_option
def command(kind: str | None, plugin: tuple[str, ...]) -> None:
    """List everything available with its origin, and plugins that could not be loaded.

    KIND is one of attacks, defenses, evaluators, datasets, models and recipes; all by default. See also `bench describe NAME`.
    """
    from bench import plugins as plugin_loader
    from bench import recipe
    from bench.models import factory
    from bench.registry import KINDS

    broken = plugin_loader.load(plugin)
    for name in [kind] if kind else _KINDS:
        if name == "models":
            rows = [(model, "built-in", "small, for CPUs") for model in factory.own_models()]
            if kind:
                rows += [(model, "open_clip", "") for model in factory.model_names() if model not in factory.own_models()]
            else:
                rows.append(("...", "open_clip", "every architecture of open_clip: `bench list models`"))
        elif name == "recipes":
            rows = [(each, recipe.origin(each), recipe.summary(each)) for each in recipe.names()]
        else:
            rows = [(entry.plugin.name, entry.origin, entry.plugin.summary()) for entry in KINDS[name]]
        click.echo(f"{name}:")
        width = max((len(name) for name, _, _ in rows), default=0)
        for plugin_name, origin, summary in rows:
            click.echo(f"  {plugin_name:{width}}  {summary}  [{origin}]" if summary else f"  {plugin_name:{width}}  [{origin}]")
    if broken:
        click.echo("not loaded:")
        for failure in broken:
            click.echo(f"  {failure.origin}\n    " + failure.traceback.strip().replace("\n", "\n    "))
