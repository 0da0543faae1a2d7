# An image with more Python packages. The build brings the wheels along, and pip as one of them: no step
# needs a network, and the wheels are not in the result.
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS added
LABEL evalset.stage=added
USER root
COPY packages/ /packages/
RUN python3 "$(ls /packages/pip/*.whl)/pip" --disable-pip-version-check install --quiet \
        --no-cache-dir --no-index --no-deps --no-compile --no-warn-script-location --ignore-installed \
        --require-hashes --root-user-action ignore --find-links /packages/wheels --root /added \
        --requirement /packages/lock \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /added -p / /added
FROM ${BASE_IMAGE}
COPY --from=added /added/ /
