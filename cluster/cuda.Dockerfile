# CUDA image: the GPU workers. From the root of the repository:
#   docker build -f cluster/cuda.Dockerfile -t registry.example.com/trawl:0.1.0-ray2.60.0-cuda .
# The CUDA libraries come with the wheels of requirements/cuda.txt, the driver from the node (NVIDIA container toolkit).
# The base is that of cpu.Dockerfile, so that head and workers run the same Python to the last digit.
FROM python:3.11.14-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /src
COPY pyproject.toml README.md ./
COPY requirements/cuda.txt requirements/
ARG EXTRAS=core,vllm
# Dependencies before the code: a change of the code leaves this layer. boto3 is for the autoscaler of virtual machines.
# Bytecode: a Ray worker starts in seconds, not in tens of them.
RUN uv venv /opt/trawl \
    && extras=$(printf '%s' "$EXTRAS" | sed 's/\([^,]*\),*/ --extra \1/g') \
    && uv pip install --python /opt/trawl/bin/python --no-cache --compile-bytecode \
        --constraint requirements/cuda.txt --requirements pyproject.toml $extras boto3
COPY trawl trawl
COPY jobs jobs
COPY tune tune
RUN uv pip install --python /opt/trawl/bin/python --no-cache --compile-bytecode --no-deps .

FROM python:3.11.14-slim-bookworm
# wget: KubeRay's probes. rsync: `ray up`. g++: Triton compiles its kernels on the node.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libgomp1 libnuma1 rsync wget \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 ray \
    && useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash ray \
    && echo 'export PATH=/opt/trawl/bin:$PATH' >/etc/profile.d/trawl.sh \
    && mkdir --mode 0700 /cache \
    && chown ray:ray /cache
COPY --from=build /opt/trawl /opt/trawl
ENV PATH=/opt/trawl/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    TRAWL_NODE_CACHE=/cache/trawl \
    HF_HOME=/cache/huggingface \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    VLLM_NO_USAGE_STATS=1
USER 1000:1000
WORKDIR /home/ray
CMD ["bash"]
