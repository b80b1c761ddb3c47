"""Renders the chart as `helm template` does, and checks each manifest against Kubernetes's schemas.

Run by the tests with the Python of .tools/ship, since nothing of these packages is imported beside the code: values as
JSON on standard input, {manifests, problems} as JSON on standard output; a refusal is {refused}.
"""

import json
import sys
from typing import Any

KUBERNETES = ("1.30", "1.34")


def main() -> int:
    import kubernetes_validate
    import yaml
    from helm_python.chart import Chart, lint
    from helm_python.errors import HelmError

    chart, values = sys.argv[1], json.load(sys.stdin)
    try:
        with Chart.load(chart) as loaded:
            loaded.validate_schema(values)
            rendered: dict[str, str] = loaded.render(values, name="jobs", namespace="work")
    except HelmError as error:
        print(json.dumps({"refused": str(error)}))
        return 0
    texts = [text for name, text in sorted(rendered.items()) if name.endswith(".yaml")]
    manifests: list[dict[str, Any]] = [each for text in texts for each in yaml.safe_load_all(text) if each]
    problems = [str(each) for each in lint(chart, values)["errors"]]
    for manifest in manifests:
        for version in KUBERNETES if ".sh/" not in manifest["apiVersion"] else ():
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                problems.append(f"{manifest['kind']} {manifest['metadata']['name']} ({version}): {error.message}")
    print(
        json.dumps(
            {"manifests": manifests, "problems": problems, "notes": rendered.get("holdfast/templates/NOTES.txt")}
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
