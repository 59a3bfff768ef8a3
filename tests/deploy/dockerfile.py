"""What the Dockerfile says, read without Docker."""

import json
from typing import Any

from dockerfile_parse import DockerfileParser

from tests.parts.program import ROOT


class Dockerfile:
    """The instructions, in their order."""

    def __init__(self) -> None:
        """Read them."""
        parser = DockerfileParser(str(ROOT / "deploy" / "Dockerfile"), env_replace=False)
        #: Name and value of each.
        self.instructions: list[tuple[str, str]] = [
            (one["instruction"], one["value"])
            for one in parser.structure
            if one["instruction"] != "COMMENT"
        ]
        #: The variables of the last stage.
        self.environment: dict[str, str] = dict(parser.envs)

    def last(self, name: str) -> str:
        """Return the value of the last instruction of this name, the one that counts."""
        return [value for one, value in self.instructions if one == name][-1]

    def array(self, name: str) -> list[str]:
        """Read the JSON array at the end of one: ENTRYPOINT's, CMD's, HEALTHCHECK's."""
        value = self.last(name)
        words: Any = json.loads(value[value.index("[") :])
        assert isinstance(words, list)
        return words

    @property
    def copied(self) -> list[str]:
        """What the first stage copies from the project."""
        stages = [place for place, (one, _) in enumerate(self.instructions) if one == "FROM"]
        copies = [value for one, value in self.instructions[: stages[1]] if one == "COPY"]
        return [source for value in copies for source in value.split()[:-1]]
