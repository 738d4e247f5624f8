"""`python -m tests.write_deps`: write each stage's import closure into dvc.yaml, in place."""

from pathlib import Path

from ruamel.yaml import YAML

from tests.test_architecture import STAGES, expected_code


def main() -> None:
    root = Path(__file__).resolve().parents[1]
    yaml = YAML()
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(root / "dvc.yaml")
    for stage in STAGES:
        entry = document["stages"][stage]
        data = [dep for dep in entry.get("deps", []) if not dep.endswith(".py")]
        entry["deps"] = data + expected_code(root, stage)
    yaml.dump(document, root / "dvc.yaml")


if __name__ == "__main__":
    main()
