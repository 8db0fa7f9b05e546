"""The configuration of each component: pure functions from the cluster's layout to file contents and command lines.

Must never touch the machine. The reason for an unusual option is next to it, with more in docs/design/local-cluster.md.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcluster.network import NODE_ADDRESS, POD_RANGE, SERVICE_RANGE
from localcluster.paths import Layout
from localcluster.tools import CNI_PLUGINS, program

NODE_NAME = "node-0"
API_SERVER = f"https://{NODE_ADDRESS}:6443"
GATEWAY_PORT = 8000
PAUSE_IMAGE = "docker.io/library/modelsync-pause:v1"
_ETCD = "http://127.0.0.1:2379"

# The user and groups of each component. RBAC's bootstrap roles cover all except Traefik.
IDENTITIES: dict[str, tuple[str, str]] = {
    "admin": ("admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "kube-proxy": ("system:kube-proxy", ""),
    "traefik": ("traefik", ""),
}

# Without a node no pod can run: tests then simulate the workload controllers, as with envtest.
_WORKLOAD_CONTROLLERS = (
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "job-controller",
    "replicaset-controller",
    "replicationcontroller-controller",
    "statefulset-controller",
)


def tokens(secrets: Mapping[str, str]) -> str:
    """The apiserver's static token file; `secrets` has a token for each of IDENTITIES."""
    return "".join(
        f'{secrets[component]},{user},{user},"{groups}"\n' if groups else f"{secrets[component]},{user},{user}\n"
        for component, (user, groups) in IDENTITIES.items()
    )


def kubeconfig(layout: Layout, token: str, authority: str) -> str:
    """A kubeconfig for the holder of `token`; `authority` is the base64-encoded certificate to trust."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": layout.identity, "cluster": {"server": API_SERVER, "certificate-authority-data": authority}}
            ],
            "users": [{"name": "holder", "user": {"token": token}}],
            "contexts": [{"name": layout.identity, "context": {"cluster": layout.identity, "user": "holder"}}],
            "current-context": layout.identity,
        },
        indent=1,
    )


def etcd(layout: Layout) -> list[str | Path]:
    """Without fsync: a test cluster's data need not survive a crash of the machine."""
    return [
        program("etcd"),
        f"--data-dir={layout.state / 'etcd'}",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver(layout: Layout) -> list[str | Path]:
    """Listens on the node's address: loopback is not valid for the endpoints of Service `kubernetes`."""
    certificates = layout.certificates
    return [
        program("kube-apiserver"),
        f"--etcd-servers={_ETCD}",
        f"--cert-dir={certificates}",
        f"--bind-address={NODE_ADDRESS}",
        f"--advertise-address={NODE_ADDRESS}",
        "--secure-port=6443",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--service-account-key-file={certificates / 'service-account.key'}",
        f"--service-account-signing-key-file={certificates / 'service-account.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--token-auth-file={layout.config / 'tokens.csv'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-client-certificate={certificates / 'kubelet-client.crt'}",
        f"--kubelet-client-key={certificates / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
        f"--audit-policy-file={layout.config / 'audit-policy.json'}",
        f"--audit-log-path={layout.audit_log}",
        "--audit-log-mode=blocking",
        "--audit-log-maxsize=100",
        "--audit-log-maxbackup=1",
    ]


def audit_policy() -> str:
    """The audit policy: log the requests of pods' service accounts, without their content."""
    return json.dumps(
        {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "omitManagedFields": True,
            "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
        },
        indent=1,
    )


def controller_manager(layout: Layout, *, workloads: bool) -> list[str | Path]:
    """`workloads`: whether to run the controllers of Deployments and other workloads."""
    controllers = ["*", *(() if workloads else (f"-{name}" for name in _WORKLOAD_CONTROLLERS))]
    return [
        program("kube-controller-manager"),
        f"--kubeconfig={layout.component_kubeconfig('kube-controller-manager')}",
        f"--service-account-private-key-file={layout.certificates / 'service-account.key'}",
        f"--root-ca-file={layout.certificates / 'apiserver.crt'}",
        "--use-service-account-credentials=true",
        "--kube-api-qps=200",  # with the default of 20, it takes five seconds to start
        "--kube-api-burst=400",
        "--horizontal-pod-autoscaler-sync-period=2s",  # with the default of 15 s, a scaling test mostly waits
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--controllers={','.join(controllers)}",
    ]


def scheduler(layout: Layout) -> list[str | Path]:
    return [
        program("kube-scheduler"),
        f"--kubeconfig={layout.component_kubeconfig('kube-scheduler')}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]


def containerd(layout: Layout) -> list[str | Path]:
    return [program("containerd"), f"--config={layout.config / 'containerd.toml'}"]


def containerd_config(layout: Layout) -> str:
    """Keeps everything below the cluster's own folders, and never pulls images.

    `restrict_oom_score_adj`: without it, if CAP_SYS_RESOURCE is missing, every sandbox fails with "can't get final
    child's PID from pipe: EOF".
    """
    return f"""version = 3
root = {json.dumps(str(layout.state / "containerd"))}
state = {json.dumps(str(layout.runtime / "containerd"))}
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = {json.dumps(str(layout.containerd_socket))}
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = {json.dumps(PAUSE_IMAGE)}
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      Root = {json.dumps(str(layout.runtime / "runc"))}
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = [{json.dumps(str(CNI_PLUGINS.folder()))}]
    conf_dir = {json.dumps(str(layout.config / "cni"))}
"""


def pod_network(layout: Layout) -> str:
    """One routed veth pair per pod.

    With a bridge, unless the kernel has br_netfilter, a pod's answer to its neighbour bypasses the node's address
    translation, and ClusterIPs then work only sometimes.
    """
    return json.dumps(
        {
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "ptp",
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": POD_RANGE}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                        "dataDir": str(layout.state / "pod-addresses"),
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        },
        indent=1,
    )


def kubelet(layout: Layout) -> list[str | Path]:
    return [
        program("kubelet"),
        f"--config={layout.config / 'kubelet.json'}",
        f"--kubeconfig={layout.component_kubeconfig('kubelet')}",
        f"--root-dir={layout.state / 'kubelet'}",
        f"--cert-dir={layout.state / 'kubelet-certificates'}",
        f"--node-ip={NODE_ADDRESS}",
        f"--hostname-override={NODE_NAME}",
    ]


def kubelet_config(layout: Layout) -> str:
    """Works with control groups v1, v2 or mixed, without a service manager that owns them."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_ADDRESS,
            "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(layout.certificates / "kubelet-client.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,  # a removed image could not be pulled again
            "resolvConf": "",
            "podLogsDir": str(layout.pod_logs),
            "maxPods": 250,
            "registryPullQPS": 0,
            "serializeImagePulls": False,
            "syncFrequency": "10s",
        },
        indent=1,
    )


def kube_proxy(layout: Layout) -> list[str | Path]:
    return [program("kube-proxy"), f"--config={layout.config / 'kube-proxy.json'}"]


def kube_proxy_config(layout: Layout) -> str:
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(layout.component_kubeconfig("kube-proxy"))},
            "mode": "nftables",
            "nftables": {"minSyncPeriod": "100ms"},  # delay until an ended pod leaves its Service; 1 s by default
            "clusterCIDR": POD_RANGE,
            "hostnameOverride": NODE_NAME,
            "bindAddress": NODE_ADDRESS,
            "metricsBindAddress": "127.0.0.1:10249",
            "conntrack": {"maxPerCore": 0},
        },
        indent=1,
    )


def traefik(layout: Layout) -> list[str | Path]:
    """Traefik as the data plane; its kubeconfig is in the environment.

    The throttle is how long it may delay a change (2 s by default); a hold must not wait for that.
    """
    return [
        program("traefik"),
        "--providers.kubernetesgateway",
        f"--providers.kubernetesgateway.statusaddress.ip={NODE_ADDRESS}",
        "--providers.providersThrottleDuration=100ms",
        f"--entrypoints.web.address=:{GATEWAY_PORT}",
        "--entrypoints.traefik.address=127.0.0.1:8080",
        "--ping=true",
        "--log.level=INFO",
        "--log.nocolor=true",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
    ]


def traefik_access() -> list[dict[str, Any]]:
    """The RBAC that Traefik needs as a Gateway API implementation."""
    read = ["get", "list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["namespaces", "services", "secrets", "nodes", "configmaps"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["*"], "verbs": read},
        {
            "apiGroups": ["gateway.networking.k8s.io"],
            "resources": [f"{kind}/status" for kind in ("gatewayclasses", "gateways", "httproutes", "grpcroutes")],
            "verbs": ["update", "patch"],
        },
    ]
    subject = {"kind": "User", "name": IDENTITIES["traefik"][0], "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "ClusterRole", "name": "traefik", "apiGroup": "rbac.authorization.k8s.io"}
    version = "rbac.authorization.k8s.io/v1"
    return [
        {"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "traefik"}, "rules": rules},
        {
            "apiVersion": version,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "traefik"},
            "roleRef": role,
            "subjects": [subject],
        },
    ]


def gateway() -> list[dict[str, Any]]:
    """GatewayClass `traefik`, and Gateway `models` in namespace `gateways`: all namespaces may attach routes."""
    version = "gateway.networking.k8s.io/v1"
    listener = {
        "name": "web",
        "port": GATEWAY_PORT,
        "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    return [
        {
            "apiVersion": version,
            "kind": "GatewayClass",
            "metadata": {"name": "traefik"},
            "spec": {"controllerName": "traefik.io/gateway-controller"},
        },
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gateways"}},
        {
            "apiVersion": version,
            "kind": "Gateway",
            "metadata": {"name": "models", "namespace": "gateways"},
            "spec": {"gatewayClassName": "traefik", "listeners": [listener]},
        },
    ]
