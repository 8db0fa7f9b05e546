"""Builds modelsync's image from the Dockerfile, with whichever of docker, buildah and podman is there."""
