# posepipe in a container, for CPUs or for NVIDIA GPUs:
#
#   docker build --target cpu -t posepipe:cpu .
#   docker build --target cuda -t posepipe:cuda .
#
# docs/docker.md says how to run it.

FROM python:3.13-slim AS wheel
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# What both images share: a user without privileges, and folders that any user may write to.
FROM python:3.13-slim AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    POSEPIPE_CACHE=/cache \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --uid 1000 --no-create-home --shell /usr/sbin/nologin posepipe \
    && install --directory --mode 1777 /cache /data
WORKDIR /data

FROM base AS cuda
# Extras of posepipe, like "[explain,openvino]".
ARG EXTRAS=""
# PyPI's torch is the CUDA build; the driver comes from the machine (nvidia-container-toolkit).
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(echo /wheels/*.whl)${EXTRAS}"
USER 1000
VOLUME ["/cache"]
ENTRYPOINT ["posepipe"]
CMD ["--help"]

FROM base AS cpu
ARG EXTRAS=""
# Which torch fits is posepipe's to say; the first line only makes it the build without CUDA.
# hadolint ignore=DL3013
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir "$(echo /wheels/*.whl)${EXTRAS}"
USER 1000
VOLUME ["/cache"]
ENTRYPOINT ["posepipe"]
CMD ["--help"]
