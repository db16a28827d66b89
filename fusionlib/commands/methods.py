"""peers list, train-peer, train-detector: the compared methods and the detector of the quick profile."""

from fusionlib.commands.shared import LAUNCH, add_settings, add_sides, settings_among

#: Settings of a training, for the help; a test compares them with `experiments.peer_training`.
RECIPE_SETTINGS = ("batch", "crop", "crops", "resize", "learning_rate", "weight_decay", "clip", "seed", "threads",
                   "amp", "workers", "validation")  # fmt: skip


def add_peers(commands) -> None:
    """Add the parser of peers list."""
    peers = commands.add_parser("peers", help="list the compared methods")
    actions = peers.add_subparsers(dest="action", required=True)
    parser = actions.add_parser("list", help="list the compared methods, and where their weights are")
    parser.add_argument("--data-root", default="", metavar="DIR", help="in or beside which peers/ is; default: data/")
    parser.set_defaults(function=list_peers)


def list_peers(arguments) -> None:
    """Print a line per method."""
    from fusionlib.experiments.fusers import peer_table

    table = peer_table(arguments.data_root)
    for row in [table.columns, *table.itertuples(index=False)]:
        print("{:<16}{:<6}{:>12}  {:<12}{}".format(*map(str, row)).rstrip())
    print("\nfuse --method NAME takes each that has weights, or --weights FILE; fusionlib.peers.describe() in Python "
          "says more.")  # fmt: skip


def add_train_detector(commands) -> None:
    """Add the parser of train-detector."""
    parser = commands.add_parser("train-detector", help="retrain the small detector of the quick profile")
    parser.add_argument("--out", help="output file; default: the one in the package")
    parser.set_defaults(function=train_detector)


def train_detector(arguments) -> None:
    """Train, and print the file."""
    from fusionlib.training.detector import train_scene_detector

    print(train_scene_detector(arguments.out))


def add_train_peer(commands) -> None:
    """Add the parser of train-peer."""
    parser = commands.add_parser(
        "train-peer", help="train a compared method on your pairs",
        description=f"Train a compared method by its own recipe on the training parts of your data sets. {LAUNCH}.")
    parser.add_argument("name", metavar="NAME", help="of the method, such as DATFuse")
    parser.add_argument("--data-root", default="", metavar="DIR", help="contains LLVIP/, MSRS/ or your own data sets")
    add_sides(parser, "instead: folder of {} images, or a pattern")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, help="optimiser steps")
    budget.add_argument("--epochs", type=int, help="passes over the pairs; default: the recipe's")
    parser.add_argument("--out", metavar="FILE", help="default: data/runs/peers/NAME.safetensors")
    parser.add_argument("--vgg", metavar="FILE", help="torchvision's VGG-16 weights, for LRRNet")
    parser.add_argument("--text", metavar="FILE", help="CLIP's embedding of the prompt, or CLIP, for TextIF")
    add_settings(parser, "of the recipe", RECIPE_SETTINGS)
    parser.set_defaults(function=train_peer)


def train_peer(arguments) -> None:
    """Train, and print the file."""
    from fusionlib.experiments.peer_training import train_peer

    options = {key: getattr(arguments, key) for key in ("ir", "visible", "steps", "epochs", "vgg", "text")}
    settings = settings_among((*RECIPE_SETTINGS, "epochs", "steps"), arguments.set, "of a training")
    settings |= {key: value for key, value in options.items() if value is not None}
    print(train_peer(arguments.name, arguments.data_root, arguments.out, **settings))
