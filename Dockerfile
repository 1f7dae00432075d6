# The GPU image: CUDA 12.6, Python 3.10, paddlepaddle-gpu from Paddle's own index.
#
# IT HAS NOT BEEN BUILT OR RUN WHERE IT WAS WRITTEN: there was neither Docker nor a GPU. Build it and, before anything
# else, let it examine itself:
#   docker build -t paddle_tk:gpu .
#   docker run --rm --gpus all paddle_tk:gpu tools/doctor.py --stage docker
FROM nvidia/cuda:12.6.3-cudnn-runtime-ubuntu22.04

# libgomp1 is the OpenMP library of the CPU kernels. Ubuntu 22.04's own Python is 3.10; its 3.11 is a release candidate.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends libgomp1 python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

# Give your own ids (--build-arg UID=$(id -u) --build-arg GID=$(id -g)), so that runs in a mounted folder are yours.
ARG UID=1000
ARG GID=1000
RUN groupadd --gid "${GID}" trainer \
    && useradd --create-home --uid "${UID}" --gid "${GID}" trainer

ENV PATH=/opt/venv/bin:$PATH \
    PADDLE_TK_HOME=/data \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/paddle_tk

RUN python3 -m venv /opt/venv \
    && pip install --no-cache-dir --upgrade pip

# Two Paddle wheels write to one folder, so the CPU wheel's line is left out. So are torch and what would bring it along:
# its GPU build asks for other CUDA libraries (compare.torch_python names an environment of its own). The same file is the
# constraint under which the GPU wheel's own dependencies are resolved.
COPY requirements.txt requirements-gpu.txt requirements-nodeps.txt ./
RUN grep -vE '^(paddlepaddle|pytorch-lightning|torchmetrics)==' requirements.txt > /tmp/requirements.txt \
    && pip install --no-cache-dir -r /tmp/requirements.txt \
    && pip install --no-cache-dir -r requirements-gpu.txt -c /tmp/requirements.txt \
    && pip install --no-cache-dir --no-deps -r requirements-nodeps.txt \
    && rm /tmp/requirements.txt

COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
    && mkdir -p runs outputs /data/datasets /data/cache \
    && chown trainer:trainer runs outputs /data /data/datasets /data/cache

USER trainer
# The same commands as outside: docker run --gpus all paddle_tk:gpu tools/train.py -c configs/resnet18.yaml
ENTRYPOINT ["python"]
CMD ["tools/train.py", "-c", "configs/resnet18.yaml"]
