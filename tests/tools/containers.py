# SPDX-License-Identifier: MIT
"""contrib/containers: what the files say is what their readers take, and their command restarts as kubelet changes a
mounted configuration."""
import json
import os
import pathlib
import subprocess

from common import CTL, EXEC, PATIENCE, PYTHON, ROOT, free_port, run, scratch, test, until

FILES = ROOT / "contrib/containers"
MOUNTED = "/etc/nginx/conf.d"


def entry_point():
    lines = (FILES / "Dockerfile").read_text(encoding="utf-8").splitlines()
    return json.loads(next(line for line in lines if line.startswith("ENTRYPOINT ")).split(" ", 1)[1])


def yaml_of(name):
    """None: Debian's python3-yaml is not installed."""
    try:
        import yaml
    except ImportError:
        print("not tried: python3-yaml is not installed")
        return None
    return list(yaml.safe_load_all((FILES / name).read_text(encoding="utf-8")))


@test
def containers_compose_and_kubernetes_files_say_what_they_should():
    compose, kubernetes = yaml_of("compose.yaml"), yaml_of("kubernetes.yaml")
    if compose is None:
        return
    web = compose[0]["services"]["web"]
    assert web["init"] is False and f"./conf.d:{MOUNTED}:ro" in web["volumes"], web
    configuration, deployment = kubernetes
    assert {"kind": "ConfigMap", "apiVersion": "v1"}.items() <= configuration.items(), configuration
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment"), deployment
    template = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    container, = template["spec"]["containers"]
    assert container["command"] == entry_point(), "the manifest's command is not the image's"
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"]: MOUNTED for volume in template["spec"]["volumes"]}, mounts
    for probe in (container["livenessProbe"]["exec"]["command"], web["healthcheck"]["test"][1:]):
        assert probe == ["cprctl", "status", "1"], probe


@test
def containers_command_restarts_when_kubelet_swaps_its_link():
    with scratch() as directory:
        room = pathlib.Path(directory)
        for name in ("..one", "..two"):
            (room / name).mkdir()
            (room / name / "default.conf").write_text(name)
        os.symlink("..one", room / "..data")
        os.symlink("..data/default.conf", room / "default.conf")
        words = [word.replace(MOUNTED, directory).replace("nginx -t", f"grep -q . {room}/default.conf")
                 for word in entry_point()]
        port = str(free_port())
        server = subprocess.Popen([EXEC, *words[1:], PYTHON, "-m", "http.server", port], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            def generation():
                done = run(CTL, "status", "--json", str(server.pid))
                said = json.loads(done.out) if done.status == 0 else {}
                return said.get("generation") if not said.get("arriving", True) else 0
            until("the server to be ready", lambda: generation() == 1)
            os.symlink("..two", room / "..data_tmp")
            os.rename(room / "..data_tmp", room / "..data")
            until("the next generation", lambda: generation() == 2)
        finally:
            server.terminate()
            server.wait(PATIENCE)
