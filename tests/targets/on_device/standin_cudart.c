/* A stand-in for CUDA's runtime library, for tests: no GPU, all memory is the system's, and no time is real.
   A stream is the number 7. Each event lies 0.25 ms behind the one before it. What is queued while a graph is recorded
   is counted and not done. STANDIN_CUDART_FAILS names a function that answers with error 900, or 2 for cudaMalloc. */

#include <stdlib.h>
#include <string.h>

static long long clock_quarters = 0, used = 1000;
static int recording = 0;

static int fails(const char *name, int code) {
    const char *asked = getenv("STANDIN_CUDART_FAILS");
    return asked && strcmp(asked, name) == 0 ? code : 0;
}
int cudaMalloc(void **out, size_t size) {
    if (fails("cudaMalloc", 2)) return 2;
    used += (long long)size;
    *out = malloc(size);
    return 0;
}
int cudaFree(void *p) { free(p); return 0; }
int cudaMallocHost(void **out, size_t size) { *out = malloc(size); return 0; }
int cudaFreeHost(void *p) { free(p); return 0; }
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    if ((long)stream != 7 || kind < 1 || kind > 2) return 1;
    if (!recording) memcpy(to, from, size);
    return 0;
}
int cudaMemGetInfo(size_t *unused, size_t *total) { *total = 1 << 30; *unused = (1 << 30) - (size_t)used; return 0; }
int cudaStreamCreate(void **out) { *out = (void *)7L; return 0; }
int cudaStreamSynchronize(void *stream) { return recording ? 900 : (long)stream != 7; }
int cudaStreamBeginCapture(void *stream, int mode) { recording = 1; return mode != 1; }
int cudaStreamEndCapture(void *stream, void **out) {
    int was = recording;
    recording = 0;
    *out = (void *)11L;
    return was ? fails("cudaStreamEndCapture", 900) : 901;
}
int cudaGraphInstantiateWithFlags(void **out, void *graph, unsigned long long flags) {
    *out = (void *)13L;
    return (long)graph != 11 || flags != 0;
}
int cudaGraphLaunch(void *graph, void *stream) { return (long)graph != 13 || (long)stream != 7; }
int cudaEventCreate(void **out) { *out = calloc(1, sizeof(long long)); return 0; }
int cudaEventRecord(void *event, void *stream) { *(long long *)event = ++clock_quarters; return (long)stream != 7; }
int cudaEventSynchronize(void *event) { return event == 0; }
int cudaEventElapsedTime(float *out, void *start, void *end) {
    *out = 0.25f * (float)(*(long long *)end - *(long long *)start);
    return 0;
}
int cudaDeviceGetAttribute(int *out, int attribute, int device) { *out = attribute == 75 ? 8 : 7; return device; }
int cudaGetDeviceProperties(void *out, int device) { strcpy((char *)out, "Stand-in GPU"); return device; }
int cudaGetLastError(void) { return 0; }
const char *cudaGetErrorString(int code) { return code == 2 ? "out of memory" : "operation failed when recorded"; }
