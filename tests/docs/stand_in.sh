#!/bin/sh
# Stands in for `oaieval` in the image that the pages' commands get: it asks no model, so that any
# can be named. With EVALS_WAIT it runs until there is a file /tmp/go.
set -eu
model=$1 eval=$2
if [ -n "${EVALS_WAIT:-}" ]; then
    echo waiting
    while [ ! -e /tmp/go ]; do sleep 0.05; done
fi
run=$(date +%y%m%d%H%M%S)$(tr -dc A-Z0-9 </dev/urandom | head -c 8)
mkdir -p /tmp/evallogs
cat >"/tmp/evallogs/${run}_${model}_$eval.jsonl" <<LINES
{"spec":{"completion_fns":["$model"],"eval_name":"$eval","run_id":"$run"}}
{"run_id":"$run","event_id":0,"sample_id":"$eval.0","type":"match","data":{"correct":true,"expected":"a","picked":"a"}}
{"run_id":"$run","event_id":1,"sample_id":"$eval.1","type":"match","data":{"correct":false,"expected":"a","picked":"b"}}
{"final_report":{"accuracy":0.5}}
LINES
echo 'Final report:'
echo 'accuracy: 0.5'
