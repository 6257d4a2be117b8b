# docker build -t safelight-cuda -f docker/cuda.Dockerfile .   PyPI's torch brings CUDA; the host needs a driver alone.
FROM python:3.12-slim
COPY pyproject.toml README.md LICENSE NOTICE /src/
COPY src /src/src
RUN pip install --no-cache-dir "/src[web,onnx]" && rm -rf /src
ENV SAFELIGHT_RUNS=/runs SAFELIGHT_CACHE=/cache CUBLAS_WORKSPACE_CONFIG=:4096:8
VOLUME ["/runs", "/cache"]
ENTRYPOINT ["safelight"]
CMD ["--help"]
