# The eval image: openai/evals and what it needs, in /opt/evals. Built by `evalset image build`, which
# brings the wheels along: no step needs a network. Works on the classic builder and on BuildKit.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS venv
# This stage is 1.3 GB that nobody needs afterwards; the label is how the runner finds and removes it.
LABEL evalset.stage=venv
COPY wheels/ /wheels/
COPY image.lock /wheels/
# pip runs out of its own wheel, because a Debian Python has none. Bytecode is compiled here, for the
# root file system is read-only at run time; unchecked, for nobody edits the sources.
RUN python3 -m venv --without-pip /opt/evals \
    && pip=$(ls /wheels/pip-*.whl) \
    && python3 "$pip/pip" --python /opt/evals/bin/python --disable-pip-version-check \
        install --quiet --no-cache-dir --no-index --no-deps --no-compile --require-hashes \
        --find-links /wheels --requirement /wheels/image.lock \
    && /opt/evals/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/evals/lib
COPY runner/ /wheels/runner/
RUN site=$(/opt/evals/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
    && for name in hook patches; do cp "/wheels/runner/image/$name.py" "$site/evalset_image_$name.py"; done \
    && echo 'import evalset_image_hook' > "$site/evalset_image_hook.pth" \
    && /opt/evals/bin/python -m compileall -q --invalidation-mode unchecked-hash "$site"/evalset_image_*.py \
    && cd /wheels && /opt/evals/bin/python -m runner.image.prepare

FROM ${BASE_IMAGE}
# The official Python images come without bytecode of the standard library; Debian's has it already.
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x '/(test|tests|idlelib|lib2to3|turtledemo|dist-packages|site-packages)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=venv /opt/evals /opt/evals
ENV PATH=/opt/evals/bin:${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin} \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONHASHSEED=0
# An import that fails here fails the build, and not each eval.
RUN OPENAI_API_KEY=none oaieval --help > /dev/null
CMD ["oaieval", "--help"]
