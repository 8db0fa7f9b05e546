"""Builds modelsync's image from the Dockerfile with docker, buildah or podman, whichever is available."""
