# One image for the operator and for the init container that fetches a model. `make image` builds it with docker, buildah or
# podman. The local cluster makes the same from the same parts without any of them (hack/localcluster/images.py).

# What it stands on: any system with Python 3.11 or later. BUILD_BASE must have the same Python, with venv and pip.
ARG BASE=docker.io/library/python:3.13-slim
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
ARG UV_VERSION=0.13.8
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir --quiet uv==${UV_VERSION}
WORKDIR /src
COPY pyproject.toml uv.lock ./
# What uv.lock pins, by hash, and no dependency that would have to be compiled. The base's certificates, so that one that
# trusts a site's own CA can reach its mirror.
RUN /uv/bin/uv export --quiet --frozen --no-emit-project --no-header --no-annotate --no-dev --output-file requirements.txt \
 && /uv/bin/uv pip install --quiet --no-cache --system-certs --python "$(command -v python3)" --target /opt/modelsync \
      --no-deps --require-hashes --only-binary :all: -r requirements.txt \
 && rm -rf /opt/modelsync/bin /opt/modelsync/.lock
COPY operator/modelsync /opt/modelsync/modelsync
# The version, where `modelsync --version` finds it; then byte code, so that no start spends time on compiling.
RUN python3 -c 'import pathlib, tomllib; version = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]["version"]; \
folder = pathlib.Path(f"/opt/modelsync/modelsync-{version}.dist-info"); folder.mkdir(); \
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: modelsync\nVersion: {version}\n")' \
 && (python3 -m compileall -qq --invalidation-mode unchecked-hash /opt/modelsync || test $? -eq 1)
COPY hack/image/modelsync /usr/local/bin/modelsync

FROM ${BASE}
# Nothing that installs or builds; the container's root is read-only anyway.
RUN find / -xdev \( -name pip -o -name 'pip-*' -o -name ensurepip -o -name setuptools -o -name 'setuptools-*' \) \
      -path '*/python3*' -prune -exec rm -rf {} + \
 && rm -f /usr/local/bin/pip* /usr/bin/pip* \
 && mkdir -p /home/nonroot && chown 65532:65532 /home/nonroot && chmod 750 /home/nonroot \
 && echo 'nonroot:x:65532:65532::/home/nonroot:/usr/sbin/nologin' >> /etc/passwd && echo 'nonroot:x:65532:' >> /etc/group
COPY --from=build /opt/modelsync /opt/modelsync
COPY --from=build /usr/local/bin/modelsync /usr/local/bin/modelsync
ARG VERSION=dev
LABEL org.opencontainers.image.version=${VERSION}
ENV HOME=/tmp
ENV LANG=C.UTF-8
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV PYTHONDONTWRITEBYTECODE=1
ENV PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["modelsync"]
