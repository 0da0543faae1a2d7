# An image on top of the eval image, with torch and what else hr-ml-agent-bench needs. Built by
# `evalset image build --extra ml`, which brings the wheels along: no step needs a network.
ARG BASE_IMAGE=evalset/evals
FROM ${BASE_IMAGE} AS venv
# This stage holds everything twice; the label is how the runner finds and removes it.
LABEL evalset.stage=venv
COPY wheels/ /wheels/
COPY image.lock /wheels/
RUN python -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-index --no-deps \
    --no-compile --require-hashes --prefix /extra --find-links /wheels --requirement /wheels/image.lock
# Torch has files that only a newer Python compiles, and no eval imports.
RUN python -m compileall -qq -j 0 --invalidation-mode unchecked-hash /extra/lib || true

FROM ${BASE_IMAGE}
COPY --from=venv /extra /opt/evals
# hr-ml-agent-bench refuses to evaluate samples in threads. Torch's threads that wait must not hold
# cores which other evals share: a training would take many times as long.
ENV EVALS_SEQUENTIAL=1 \
    OMP_WAIT_POLICY=PASSIVE
# An import that fails here fails the build, and not each eval.
RUN OPENAI_API_KEY=none python -c 'import evals.elsuite.hr_ml_agent_bench.eval, stable_baselines3'
CMD ["oaieval", "--help"]
