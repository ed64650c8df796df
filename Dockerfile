# docker build -t bonepipe . ; with BASE=nvidia/cuda:12.8.1-base-ubuntu24.04 it runs on GPUs too: see README.md.
ARG BASE=python:3.12-slim
FROM ${BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && { command -v python3 || apt-get install --yes --no-install-recommends python3 python3-venv; } \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /bonepipe
COPY . .
RUN make setup
VOLUME ["/bonepipe/data", "/bonepipe/runs"]
ENTRYPOINT ["make"]
CMD ["submit"]
