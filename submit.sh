#!/usr/bin/env bash
# The one door: sets the machine up on first use, then runs a job, the tests or the packing.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VENV="$ROOT/.venv"
PYTHON="$VENV/bin/python"
LOG="$ROOT/.venv/setup.log"

usage() {
  cat <<'TEXT'
usage: ./submit.sh JOB [--conf FILE]… [--set section.key=value]… [--date YYYY-MM-DD]
                       [--spark-conf FILE] [--deploy-mode client|cluster]

jobs    pipeline   every stage in order; with no more words, on the generated demo shop
        demo       make the demo shop
        ingest     check the input, hash contents, commit the catalog
        pretrain   let encoders learn the catalog, where settings ask for it
        embed      encode what has no vector yet
        tensors    write the Petastorm datasets
        train      train the alignment model under Horovod
        score      top-K for every user
        evaluate   metrics and the HTML report
        export     write recommendations for other systems
        query      show what a user gets, what is near an item, what a sentence finds
        served     list what was served when
        rollback   serve the run before again, or the one of --to RUN
        gc         remove data that nothing reads any more
        plan       say what a run would do, and change nothing
        doctor     check this machine, and with --spark-conf the cluster, and say how to mend each finding
other   setup      install everything into .venv (any job does it first)
        test       run the tests that take a quarter of an hour; --all those on stores, clusters and faults too;
                   other words go to pytest
        pack       build dist/crossweave.zip and dist/environment.tar.gz for a cluster; --without-cuda leaves NVIDIA out
TEXT
}

say() { printf '%s\n' "$*" >&2; }

find_python() {
  local candidate
  for candidate in "${CROSSWEAVE_PYTHON:-}" python3.11 python3; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

java_is_17() {
  local java=${JAVA_HOME:+$JAVA_HOME/bin/}java
  "$java" -version 2>&1 | grep -q 'version "17\.'
}

# Names everything that is missing at once, with the way to get it.
require_machine() {
  local missing=0
  lack() { [ "$missing" = 1 ] || say "this machine lacks:"; missing=1; say "  - $1"; }
  find_python >/dev/null || lack "Python 3.11 (Debian: apt-get install python3.11 python3.11-venv; or pyenv install 3.11)"
  java_is_17 2>/dev/null || lack "Java 17 (Debian: apt-get install openjdk-17-jre-headless; or set JAVA_HOME)"
  command -v c++ >/dev/null || lack "a C++17 compiler (Debian: apt-get install g++)"
  command -v cmake >/dev/null || lack "cmake (Debian: apt-get install cmake)"
  [ "$missing" = 0 ] || exit 2
}

# With torch's CUDA build .venv takes 8 GB, with its CPU build 3.
require_disk() {
  local free
  free=$(df -Pk "$ROOT" | awk 'NR == 2 { print int($4 / 1024 / 1024) }')
  [ "${free:-99}" -ge "${CROSSWEAVE_DISK_GB:-10}" ] || {
    say "$ROOT has $free GB of free disk, and set-up wants ${CROSSWEAVE_DISK_GB:-10}: make room, or let CROSSWEAVE_DISK_GB say less"
    exit 2
  }
}

# Runs one step of the installation in the background of a ticking line, its output in the log.
step() {
  local label=$1 start=$SECONDS pid
  shift
  "$@" >>"$LOG" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    if [ -t 2 ]; then printf '\r  %s … %d s ' "$label" "$((SECONDS - start))" >&2; fi
    sleep 1
    if [ ! -t 2 ] && [ $(((SECONDS - start) % 30)) = 29 ]; then say "  $label … $((SECONDS - start)) s"; sleep 1; fi
  done
  if ! wait "$pid"; then
    [ ! -t 2 ] || say ""
    say "  $label failed; the end of $LOG:"
    tail -n 15 "$LOG" >&2
    exit 1
  fi
  [ ! -t 2 ] || printf '\r' >&2
  say "  $label: $((SECONDS - start)) s     "
}

# uv reads none of pip's settings; what they say of indexes and certificates goes along, and indexes mean what they mean to pip.
take_pip_settings() {
  local settings name value
  settings=$("$PYTHON" -m pip config list)
  for name in index-url:UV_DEFAULT_INDEX extra-index-url:UV_INDEX find-links:UV_FIND_LINKS cert:SSL_CERT_FILE; do
    value=$(sed -nE "s/^(global|install|:env:)\.${name%%:*}='(.*)'$/\2/p" <<<"$settings" | tail -n 1)
    [ -z "$value" ] || [ -n "$(printenv "${name##*:}")" ] || export "${name##*:}=${value//\\n/ }"
  done
  export UV_INDEX_STRATEGY=unsafe-best-match
}

get_uv() {
  "$PYTHON" -m pip install --disable-pip-version-check --constraint "$ROOT/conf/requirements.lock" uv
  "$VENV/bin/uv" --version
}

uv_install() { "$VENV/bin/uv" pip install --python "$PYTHON" --constraint "$ROOT/conf/requirements.lock" "$@"; }

# The CPU build where an index offers one and no GPU is here; it is a tenth of the size of the CUDA build.
install_torch() {
  local tools=(setuptools wheel cffi cloudpickle psutil pyyaml packaging numpy==1.26.4)
  local index=${CROSSWEAVE_TORCH_INDEX:+--index=$CROSSWEAVE_TORCH_INDEX}
  if ! command -v nvidia-smi >/dev/null && uv_install $index "${tools[@]}" torch==2.13.0+cpu; then return 0; fi
  uv_install $index "${tools[@]}" torch==2.13.0
}

# Horovod 0.28.1 asks CMake for C++14, while torch's headers need C++17: a toolchain file raises it from outside.
# pip makes the wheel, and keeps it for the next time: uv would keep the rest of the installation waiting meanwhile.
build_horovod() {
  local build="$VENV/horovod-cxx17"
  mkdir -p "$build"
  printf '%s\n' 'set(CMAKE_PROJECT_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/cxx17.cmake" CACHE FILEPATH "" FORCE)' \
    >"$build/toolchain.cmake"
  printf '%s\n' 'set(CMAKE_CXX14_STANDARD_COMPILE_OPTION "-std=c++17")' \
    'set(CMAKE_CXX14_EXTENSION_COMPILE_OPTION "-std=gnu++17")' >"$build/cxx17.cmake"
  CMAKE_TOOLCHAIN_FILE="$build/toolchain.cmake" HOROVOD_WITH_PYTORCH=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 \
    HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 MAKEFLAGS="-j$(nproc)" PATH="$VENV/bin:$PATH" \
    "$PYTHON" -m pip wheel --no-build-isolation --no-deps --wheel-dir "$VENV/wheels" \
    --constraint "$ROOT/conf/requirements.lock" horovod==0.28.1
}

# What setup.py asks for; the package itself runs from lib/, so that .venv can be packed and never holds a stale copy.
install_requirements() {
  uv_install --no-build-isolation "$ROOT[test,pack${CROSSWEAVE_EXTRAS:+,$CROSSWEAVE_EXTRAS}]"
  "$VENV/bin/uv" pip uninstall --python "$PYTHON" --quiet crossweave
}

build_horovod_aside() {
  rm -f "$VENV/horovod.status"
  (build_horovod >"$VENV/horovod.log" 2>&1 && echo 0 >"$VENV/horovod.status" || echo 1 >"$VENV/horovod.status") &
}

install_horovod() {
  while [ ! -f "$VENV/horovod.status" ]; do sleep 1; done
  cat "$VENV/horovod.log"
  [ "$(cat "$VENV/horovod.status")" = 0 ] && uv_install --no-deps "$VENV"/wheels/horovod-*.whl
}

setup() {
  local wanted
  wanted=$(cat "$ROOT/setup.py" "$ROOT/conf/requirements.lock" | sha256sum)
  [ "$(cat "$VENV/.ready" 2>/dev/null)" != "$wanted" ] || return 0
  require_machine
  require_disk
  say "setting up $VENV (once; some minutes, most of them Horovod's build, which pip keeps)"
  local start=$SECONDS
  [ -x "$PYTHON" ] || "$(find_python)" -m venv "$VENV"
  : >"$LOG"
  step "1/5 uv, which installs the rest" get_uv
  take_pip_settings
  step "2/5 torch and build tools" install_torch
  build_horovod_aside
  step "3/5 Spark, transformers and the rest, with Horovod's build beside it" \
    install_requirements
  # Its pin on setuptools contradicts torch's; everything it needs is in setup.py.
  step "4/5 petastorm" uv_install --no-deps petastorm==0.13.1
  step "5/5 Horovod" install_horovod
  printf '%s' "$wanted" >"$VENV/.ready"
  say "ready after $((SECONDS - start)) s"
}

# The lane of every change, whatever options of pytest stand behind; --all and a test named by its file choose for
# themselves, and of two -m the last counts.
run_tests() {
  local lane=(-m "not slow") word
  cd "$ROOT"
  for word; do [[ $word != -* && -e ${word%%::*} ]] && lane=(); done
  [[ ${1:-} == --all ]] && lane=() && shift
  PYTHONPATH="$ROOT/lib" exec "$PYTHON" -m pytest ${lane[@]+"${lane[@]}"} "$@"
}

# A setting of a file of Spark's, as Spark reads it: the last one counts; empty where there is none.
spark_setting() { sed -nE "s/^[[:space:]]*${1//./\\.}[[:space:]=:]+(.*[^[:space:]])[[:space:]]*$/\1/p" "$2" | tail -n 1; }

# A word for PYSPARK_SUBMIT_ARGS, which Python reads as a POSIX shell would.
quoted() { printf "'%s' " "${1//\'/\'\\\'\'}"; }

# Runs a job that may use Spark. The job's own process stands in front, so that signals and exit codes are its own, and
# starts the JVM when a stage asks for it; a cluster that runs the driver itself gets spark-submit.
run_job() {
  local job=$1 spark_conf="${CROSSWEAVE_SPARK_CONF:-$ROOT/conf/spark/local.conf}" deploy_mode="" words=()
  shift
  while [ $# -gt 0 ]; do
    case "$1" in
      --spark-conf) [ $# -ge 2 ] || { say "--spark-conf needs a file"; exit 2; }; spark_conf=$2; shift 2 ;;
      --deploy-mode) [ $# -ge 2 ] || { say "--deploy-mode needs client or cluster"; exit 2; }; deploy_mode=$2; shift 2 ;;
      *) words+=("$1"); shift ;;
    esac
  done
  [ "$job" != doctor ] || words+=(--spark-conf "$spark_conf")
  [ -f "$spark_conf" ] || { say "the Spark settings file $spark_conf does not exist"; exit 2; }
  SPARK_HOME=$("$PYTHON" -c 'import importlib.util as u; print(u.find_spec("pyspark").submodule_search_locations[0])')
  # Petastorm reads through interfaces that pyarrow has deprecated; its warnings are nothing to act on.
  export PYTHONWARNINGS="${PYTHONWARNINGS:-ignore::FutureWarning}"
  export SPARK_HOME PYSPARK_PYTHON="$PYTHON" PYSPARK_DRIVER_PYTHON="$PYTHON"
  export PYTHONPATH="$ROOT/lib${PYTHONPATH:+:$PYTHONPATH}"
  # Java names files in the letters of its locale; those of C are ASCII.
  [ "$(locale charmap 2>/dev/null)" = UTF-8 ] || export LC_ALL=C.UTF-8
  # Spark's own start-up chatter is not ours to show; its errors are.
  local options=(--properties-file "$spark_conf" --driver-java-options
    "-Dlog4j2.configurationFile=file:$ROOT/conf/spark/log4j2.properties" --conf spark.ui.showConsoleProgress=false)
  local master
  master=$(spark_setting spark.master "$spark_conf")
  if [ "$master" = yarn ] && [ -z "${HADOOP_CONF_DIR:-${YARN_CONF_DIR:-}}" ]; then
    say "$spark_conf is for YARN, and HADOOP_CONF_DIR is not set: export the folder of the cluster's core-site.xml"
    exit 2
  fi
  # Executors elsewhere know nothing of this checkout; the package goes with the job.
  case "$master" in
    "" | local*) ;;
    *)
      "$PYTHON" "$ROOT/jobs/pack.py" --without-environment >/dev/null
      local files
      files=$(spark_setting spark.submit.pyFiles "$spark_conf")
      options+=(--py-files "$ROOT/dist/crossweave.zip${files:+,$files}")
      ;;
  esac
  deploy_mode=${deploy_mode:-$(spark_setting spark.submit.deployMode "$spark_conf")}
  case "$job:${deploy_mode:=client}" in
    plan:cluster | doctor:cluster) deploy_mode=client ;; # what they say is for this screen
    *:client) ;;
    *:cluster) exec "$PYTHON" "$ROOT/jobs/on_cluster.py" "$job" "$spark_conf" ${words[@]+"${words[@]}"} ;;
    *) say "--deploy-mode is client or cluster, not $deploy_mode"; exit 2 ;;
  esac
  options+=(--deploy-mode "$deploy_mode")
  PYSPARK_SUBMIT_ARGS="$(for word in "${options[@]}"; do quoted "$word"; done)pyspark-shell"
  export PYSPARK_SUBMIT_ARGS
  exec "$PYTHON" "$ROOT/jobs/$job.py" ${words[@]+"${words[@]}"}
}

verb=${1:-help}
[ $# -eq 0 ] || shift
case "$verb" in
  pipeline | evaluate | export | plan | doctor | query | served | rollback | pack) file=$verb ;;
  ingest) file=ingest_catalog ;;
  pretrain) file=pretrain_encoders ;;
  embed) file=embed_items ;;
  tensors) file=build_tensors ;;
  train) file=train_alignment ;;
  score) file=score_users ;;
  demo) file=make_demo ;;
  gc) file=collect_garbage ;;
  setup | test) file= ;;
  help | -h | --help) usage; exit 0 ;;
  *) say "unknown job $verb"; usage >&2; exit 2 ;;
esac
setup
case "$verb" in
  setup) say "$VENV is ready" ;;
  test) run_tests "$@" ;;
  doctor)
    case " $* " in *" --spark-conf "*) run_job doctor "$@" ;; esac
    PYTHONPATH="$ROOT/lib" exec "$PYTHON" "$ROOT/jobs/doctor.py" "$@"
    ;;
  demo | gc | query | served | rollback | pack) PYTHONPATH="$ROOT/lib" exec "$PYTHON" "$ROOT/jobs/$file.py" "$@" ;; # they need no Spark
  *) run_job "$file" "$@" ;;
esac
