#!/usr/bin/env bash
# What is to be measured where there is a GPU, in at most 15 minutes: the tests of real CUDA, images per second and the
# share of the card's peak, a training step of three ResNet-20 against a plain loop, and attacks against torchattacks on
# the same card. Prints tables for docs/benchmarks.md; everything lies in OUT (gpu-out).
#
#     bash benchmarks/gpu.sh [--quick] [OUT]
#
# --quick: on whatever device there is, a CPU as well, in a few minutes: to see that it runs, not for any number.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
quick=""
if [ "${1:-}" = "--quick" ]; then quick=yes; shift; fi
out=${1:-gpu-out}
mkdir -p "$out"
export COLUMNS=160 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" ROBUSTKIT_CACHE="${ROBUSTKIT_CACHE:-$PWD/$out/cache}"

device=$("$python" -c 'from robustkit.base.devices import find_device; print(find_device("auto"))') || exit 2
if [ -z "$quick" ] && [ "$device" = cpu ]; then
    echo "error: torch sees no GPU here; bash benchmarks/gpu.sh --quick tries the script out." >&2
    exit 2
fi

failed=0
stage() { # seconds at most, name, command
    local limit=$1 name=$2 started=$SECONDS
    [ -z "$quick" ] || limit=$((4 * limit)) # no figure of it counts, and a CPU may be shared
    shift 2
    echo "== $name"
    timeout "$limit" "$@" >"$out/$name.txt" 2>&1
    local code=$?
    [ $code -eq 0 ] || failed=1
    cat "$out/$name.txt"
    echo "-- $name: exit $code, $((SECONDS - started)) s"
}

if [ -n "$quick" ]; then
    batches=2,4 batch=8 steps=2 repeats=1 defenses=baseline,adp arch=resnet20 rows=pgd-10,cw n=8 more=(--quick) epochs=1 model=lenet
else
    batches=64,256,1024,2048 batch=128 steps=20 repeats=3 defenses=baseline,adp,advt-pgd arch=resnet20
    rows=pgd-10,pgd-50,pgd-50-restarts,apgd-ce-100,square-1000,cw n=1024 more=() epochs=5 model=resnet20
fi

# 30 + 290 + 90 + 120 + 90 + 250 = 870 seconds at most, and a few for what has no limit
[ "$device" = cpu ] || stage 30 card nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv
stage 290 tests "$python" -m pytest -q -p no:cacheprovider -n 0 -k "(cuda or real) and not pretend" -rs \
    tests/conformance/test_on_a_gpu.py tests/conformance/test_whole_runs_on_a_gpu.py \
    tests/conformance/test_several_gpus.py tests/evaluation/test_verdicts_on_a_gpu.py tests/evaluation/test_on_cuda.py \
    tests/ensembles/test_captured.py tests/auditing/test_models_on_a_gpu.py
stage 90 passes "$python" benchmarks/gpu.py --device "$device" --batches "$batches" --json "$out/passes.json"
stage 120 training "$python" benchmarks/training.py --device "$device" --arch "$arch" --batch-size "$batch" --steps "$steps" \
    --repeats "$repeats" --speeds off,auto --defenses "$defenses" --json "$out/training.json"
[ -f "$out/training.json" ] && "$python" benchmarks/gpu.py --training "$out/training.json" | tee "$out/training.md"
"$python" benchmarks/gpu.py --data "$out/images" || exit 1
stage 90 model "$python" -m robustkit train --defense baseline --dataset "npz:$out/images/divided.npz" \
    --arch "$model" --members 3 --epochs "$epochs" --device "$device" --out "$out/model" --force
stage 250 attacks "$python" benchmarks/attacks.py --device "$device" --checkpoint "$out/model" \
    --data "$out/images/all.npz" --n "$n" --only "$rows" --peers torchattacks --peer-timeout 60 "${more[@]}" \
    --json "$out/attacks.json"
if [ -f "$out/attacks.json" ]; then
    "$python" benchmarks/attacks.py --render "$out/attacks.json" --out "$out"
fi
echo "All of it is in $out; the tables of passes.txt, training.md and benchmarks.md belong into docs/benchmarks.md."
exit $failed
