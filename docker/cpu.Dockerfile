# docker build -t safelight -f docker/cpu.Dockerfile .
FROM python:3.12-slim
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md LICENSE NOTICE /src/
COPY src /src/src
RUN pip install --no-cache-dir "/src[web,onnx]" && rm -rf /src
ENV SAFELIGHT_RUNS=/runs SAFELIGHT_CACHE=/cache
VOLUME ["/runs", "/cache"]
ENTRYPOINT ["safelight"]
CMD ["--help"]
