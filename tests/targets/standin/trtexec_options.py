"""Which options trtexec knows in which TensorRT, for the stand-in: an unknown one is refused as trtexec refuses it.

From the `--help` of 8.5, 8.6 and 10.3 and the sources of its option parser up to 11.1: `--buildOnly` became
`--skipInference` in 8.6, the optimization level came with 8.6, strong typing with 10.0; 11.0 took away every option
that names a precision, because there the types of the network decide alone.
"""

ALWAYS = """
    onnx saveEngine loadEngine device verbose help shapes minShapes optShapes maxShapes inputIOFormats outputIOFormats
    memPoolSize profilingVerbosity timingCacheFile noBuilderCache sparsity noTF32 refit safe consistency
    tacticSources plugins staticPlugins useDLACore allowGPUFallback minTiming avgTiming
    loadInputs iterations warmUp duration sleepTime idleTime infStreams streams exposeDMA noDataTransfers
    useManagedMemory useSpinWait threads useCudaGraph timeDeserialize timeRefit separateProfileRun persistentCacheRatio
    avgRuns percentile dumpRefit dumpOutput dumpProfile dumpLayerInfo exportTimes exportOutput exportProfile
    exportLayerInfo
"""
BEFORE_8_6 = "buildOnly workspace explicitBatch"
SINCE_8_6 = """
    skipInference builderOptimizationLevel versionCompatible hardwareCompatibilityLevel maxAuxStreams
    errorOnTimingCacheMiss excludeLeanRuntime useRuntime getPlanVersionOnly dumpRawBindingsToFile useProfile tempdir
"""
SINCE_10 = "stronglyTyped stripWeights allocationStrategy runtimePlatform saveAllLayers"
BEFORE_11 = """
    int8 fp16 bf16 fp8 int4 best calib layerPrecisions layerOutputTypes layerDeviceTypes precisionConstraints
"""
NOT_BEFORE_10 = "bf16 fp8 int4"
SINCE_11 = "includeDataTransfers noCudaGraph noSpinWait loadRefOutputs atol rtol refitFromOnnx cpuOnly"
# Defaults since 11.0: the old options are taken, with a warning
DEFAULT_IN_11 = ("noDataTransfers", "useCudaGraph", "useSpinWait", "separateProfileRun")


def known_options(version: tuple[int, ...]) -> set[str]:
    """The options of the trtexec of this TensorRT."""
    parts = [ALWAYS, BEFORE_8_6 if version < (8, 6) else SINCE_8_6, BEFORE_11 if version < (11,) else SINCE_11]
    parts.append(SINCE_10 if version >= (10,) else "")
    unborn = NOT_BEFORE_10.split() if version < (10,) else []
    return set(" ".join(parts).split()) - set(unborn)


def version_code(version: tuple[int, ...]) -> str:
    """How the banner writes it: 8.5.2 is 8502, 10.3.0 is 100300."""
    major, minor, patch = version
    return str(major * 1000 + minor * 100 + patch) if major < 10 else str(major * 10000 + minor * 100 + patch)
