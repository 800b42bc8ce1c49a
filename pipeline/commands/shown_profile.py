"""The profile of a device as text and as JSON data: every figure beside its source."""

from dataclasses import asdict, dataclass, field
from typing import Any

from targets.profile import Profile

# What the fields of a variant are called, in the order they are shown in.
FIGURES = {
    "int8": "INT8, dense", "fp16": "FP16, dense", "fp32": "FP32", "memory": "memory", "bandwidth": "bandwidth",
}  # fmt: skip


def profile_as_json(profile: Profile | None) -> dict[str, Any] | None:
    """All of it, and what was looked for and not found."""
    return None if profile is None else {**asdict(profile), "not_found": list(profile.not_found())}


@dataclass(frozen=True)
class Sources:
    """Sources in the order they were first cited."""

    cited: list[str] = field(default_factory=list)

    def mark(self, source: str) -> str:
        """The number of a source in brackets."""
        if source not in self.cited:
            self.cited.append(source)
        return f"[{self.cited.index(source) + 1}]"

    def lines(self) -> list[str]:
        """All of them, numbered."""
        return [f"  [{number}] {source}" for number, source in enumerate(self.cited, 1)]


def profile_text(told: dict[str, Any], sources: Sources) -> list[str]:
    """Lines for the command line, from the JSON data; each ends with the number of its source."""

    def line(title: str, said: str, source: str) -> str:
        return f"  {title:<13} {said} {sources.mark(source)}"

    lines = [line("processor", told["processor"]["text"], told["processor"]["source"])]
    for variant in told["variants"]:
        lines.append(f"  {variant['name']}")
        for name, title in FIGURES.items():
            figure = variant[name]
            if figure is not None:
                lines.append(line(f"  {title}", f"{figure['value']:.4g} {figure['unit']}", figure["source"]))
        for mode in variant["power_modes"]:
            said = f"{mode['name']}{', the preset' if mode['preset'] else ''}"
            said += f": {mode['allows']}" if mode["allows"] else ""
            lines.append(line("  power mode", said, mode["source"]))
    for each in told["software"]:
        opset = "" if each["opset"] is None else f", reads ONNX operator sets up to {each['opset']}"
        lines.append(line("software", f"{each['release']}: {each['runtime']}{opset}", each["source"]))
    lines += [line("remark", each["text"], each["source"]) for each in told["remarks"]]
    if told["not_found"]:
        lines.append(f"  no source was found for: {', '.join(told['not_found'])}")
    return lines
