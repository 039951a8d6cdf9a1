#!/usr/bin/env bash
# What a container of ours runs: a driver or an executor, as Spark on Kubernetes asks for them, or any other command.
set -euo pipefail

role=${1:-}
case "$role" in
  driver)
    shift
    # Spark calls a file of jars by its place; the executors get them from the driver.
    jars=("$HOME"/.ivy2/jars/*.jar)
    [ -e "${jars[0]}" ] || jars=()
    more=()
    [ ${#jars[@]} = 0 ] || more=(--jars "$(IFS=,; printf '%s' "${jars[*]}")")
    exec "$SPARK_HOME/bin/spark-submit" --deploy-mode client \
      --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS" ${more[@]+"${more[@]}"} "$@"
    ;;
  executor)
    options=()
    for ((number = 0; ; number++)); do # one variable an option, from 0 on
      name=SPARK_JAVA_OPT_$number
      [ -n "${!name+set}" ] || break
      options+=("${!name}")
    done
    exec "${JAVA_HOME:+$JAVA_HOME/bin/}java" ${options[@]+"${options[@]}"} \
      "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" \
      -cp "${SPARK_CLASSPATH:+$SPARK_CLASSPATH:}${SPARK_CONF_DIR:+$SPARK_CONF_DIR:}$SPARK_HOME/jars/*" \
      org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
      --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
      --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
      --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
    ;;
  *) exec "$@" ;;
esac
