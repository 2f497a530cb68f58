/* A CUDA device without a GPU: the functions of the runtime, driver and cuBLAS whose answers torch looks at.

   Memory of the device is a reserved range of addresses that nobody may touch, so nothing is computed: a launch or copy
   only writes a line to the log. Bytes that the host reads back are all 1, a small positive number in every type.
   All other functions are stubs that succeed; `build.py` writes them. Loaded before torch's own libraries (LD_PRELOAD). */

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <sys/mman.h>
#include "driver_types.h"
#include "vector_types.h"

#define PAGE 4096ul
#define RANGE (1ul << 42)
#define OUT_OF_MEMORY 2
#define CUBLAS_FAILED 14

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int broken;                       /* the error that every later call returns, as after an assert on a device */
static int launches_left = -1;           /* launches until the device breaks with `next_error`; -1: it does not */
static int next_error;
static int multiprocessors = 132;

/* ---- log: KIND, name, number, tab-separated ---- */

static char *text;
static size_t length;
static FILE *log_file;

void null_log_begin(void) { log_file = open_memstream(&text, &length); }
const char *null_log_end(void) { fclose(log_file); log_file = NULL; return text; }

static void note(const char *kind, const char *name, long long number) {
    if (!log_file) return;
    pthread_mutex_lock(&lock);
    fprintf(log_file, "%s\t%s\t%lld\n", kind, name, number);
    pthread_mutex_unlock(&lock);
}

/* ---- what tests set ---- */

static size_t total = 80ul << 30, used, refused;

void null_set_total(size_t bytes) { total = bytes; }
size_t null_used(void) { return used; }
size_t null_refused(void) { return refused; }
void null_break_after(int launches, int error) { launches_left = launches; next_error = error; }

static int status(void) { return broken; }

/* ---- capture: a stream whose work becomes a graph; what would need the device at once spoils it ---- */

#define CAPTURE_UNSUPPORTED 900
#define CAPTURE_INVALIDATED 901

static void *captured_stream;
static unsigned long long captures;
static int capturing, spoiled, fails_next_capture;

void null_fail_next_capture(void) { fails_next_capture = 1; }
static int spoils_capture(void) { if (capturing) spoiled = 1; return capturing ? CAPTURE_UNSUPPORTED : 0; }

/* ---- memory ---- */

typedef struct block { uintptr_t begin; size_t size; struct block *next; } block;
static block *blocks, *pinned;
static uintptr_t range, free_from;

static int on_device(const void *p) { return range && (uintptr_t)p - range < RANGE; }

static block *holding(block *list, const void *p) {
    while (list && (uintptr_t)p - list->begin >= list->size) list = list->next;
    return list;
}

static void add(block **list, uintptr_t begin, size_t size) {
    block *new = malloc(sizeof *new);
    *new = (block){begin, size, *list};
    *list = new;
}

static size_t removed(block **list, const void *p) {
    for (block **at = list; *at; at = &(*at)->next)
        if ((*at)->begin == (uintptr_t)p) {
            block *old = *at;
            size_t size = old->size;
            *at = old->next;
            free(old);
            return size;
        }
    return 0;
}

int cudaMalloc(void **p, size_t bytes) {
    size_t size = (bytes + PAGE - 1) & ~(PAGE - 1);
    if (broken) return broken;
    pthread_mutex_lock(&lock);
    if (!range) range = free_from = (uintptr_t)mmap(0, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int full = used + size > total;
    if (full) refused++;
    else { *p = (void *)free_from; add(&blocks, free_from, size); used += size; free_from += size; }
    pthread_mutex_unlock(&lock);
    return full ? OUT_OF_MEMORY : 0;
}

int cudaFree(void *p) {
    pthread_mutex_lock(&lock);
    used -= removed(&blocks, p);
    pthread_mutex_unlock(&lock);
    return status();
}

int cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    *free_bytes = total - used;
    *total_bytes = total;
    return status();
}

int cudaHostAlloc(void **p, size_t bytes, unsigned flags) {
    *p = aligned_alloc(PAGE, (bytes + PAGE - 1) & ~(PAGE - 1));
    pthread_mutex_lock(&lock);
    add(&pinned, (uintptr_t)*p, bytes);
    pthread_mutex_unlock(&lock);
    return 0;
}

int cudaFreeHost(void *p) {
    pthread_mutex_lock(&lock);
    removed(&pinned, p);
    pthread_mutex_unlock(&lock);
    free(p);
    return 0;
}

static int is_pinned(const void *p) {
    pthread_mutex_lock(&lock);
    int found = holding(pinned, p) != NULL;
    pthread_mutex_unlock(&lock);
    return found;
}

static int copied(void *to, const void *from, size_t bytes) {
    if (broken) return broken;
    if (capturing && !(on_device(to) && (on_device(from) || is_pinned(from)))) return spoils_capture();
    if (on_device(to)) note(capturing ? "CAPTURED" : "COPY", on_device(from) ? "on device" : is_pinned(from) ? "from pinned" : "from pageable", bytes);
    else if (on_device(from)) { note("COPY", "to host", bytes); memset(to, 1, bytes); }
    else memmove(to, from, bytes);
    return 0;
}

int cudaMemcpy(void *to, const void *from, size_t bytes, int kind) { return copied(to, from, bytes); }
int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream) { return copied(to, from, bytes); }
int cudaMemset(void *to, int value, size_t bytes) { note("MEMSET", "", bytes); return status(); }
int cudaMemsetAsync(void *to, int value, size_t bytes, void *stream) { note(capturing ? "CAPTURED" : "MEMSET", "", bytes); return status(); }

int cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p) {
    memset(a, 0, sizeof *a);
    a->type = on_device(p) ? cudaMemoryTypeDevice : is_pinned(p) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    if (a->type == cudaMemoryTypeDevice) a->devicePointer = (void *)p;
    if (a->type == cudaMemoryTypeHost) a->hostPointer = a->devicePointer = (void *)p;
    return 0;
}

/* ---- the device ---- */

int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaDriverGetVersion(int *version) { *version = CUDA_VERSION_BUILT; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = CUDA_VERSION_BUILT; return 0; }
int cudaDeviceCanAccessPeer(int *can, int device, int peer) { *can = 0; return 0; }
int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return 0; }

int cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "Null device");
    p->major = 9;
    p->totalGlobalMem = total;
    p->multiProcessorCount = multiprocessors;
    p->warpSize = 32;
    p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = INT32_MAX;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxBlocksPerMultiProcessor = 32;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = 227 << 10;
    p->sharedMemPerMultiprocessor = 228 << 10;
    p->l2CacheSize = 50 << 20;
    p->textureAlignment = 512;
    p->unifiedAddressing = p->concurrentKernels = p->streamPrioritiesSupported = 1;
    return 0;
}

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    struct cudaDeviceProp p;
    cudaGetDeviceProperties(&p, device);
    switch (attribute) {
        case cudaDevAttrMaxThreadsPerBlock: case cudaDevAttrMaxBlockDimX: case cudaDevAttrMaxBlockDimY: *value = 1024; break;
        case cudaDevAttrMaxBlockDimZ: *value = 64; break;
        case cudaDevAttrMaxGridDimX: *value = INT32_MAX; break;
        case cudaDevAttrMaxGridDimY: case cudaDevAttrMaxGridDimZ: *value = 65535; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = p.sharedMemPerBlock; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = p.sharedMemPerBlockOptin; break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = p.sharedMemPerMultiprocessor; break;
        case cudaDevAttrMaxRegistersPerBlock: case cudaDevAttrMaxRegistersPerMultiprocessor: *value = 65536; break;
        case cudaDevAttrWarpSize: *value = 32; break;
        case cudaDevAttrMultiProcessorCount: *value = multiprocessors; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
        case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
        case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
        case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
        default: *value = 1;
    }
    return 0;
}

static int device_works;

void null_work(int works) { device_works = works; }  /* 1: nothing on the device is done, as long as nobody waits */

static int waited(const char *name) {
    if (capturing) return spoils_capture();
    note("WAIT", name, 0);
    return status();
}

int cudaDeviceSynchronize(void) { return waited("device"); }
int cudaStreamSynchronize(void *stream) { return waited("stream"); }
int cudaEventSynchronize(void *event) { return waited("event"); }
int cudaStreamQuery(void *stream) { return status(); }
int cudaEventQuery(void *event) { return device_works ? cudaErrorNotReady : status(); }
int cudaGetLastError(void) { return status(); }
int cudaPeekAtLastError(void) { return status(); }
int cudaEventElapsedTime(float *ms, void *begin, void *end) { *ms = 1; return 0; }

static int is_captured(void *stream) { return capturing && stream == captured_stream; }

int cudaStreamIsCapturing(void *stream, int *found) { *found = is_captured(stream) ? 1 + spoiled : 0; return 0; }

int cudaStreamGetCaptureInfo(void *stream, int *found, unsigned long long *id, void **graph, void *a, void *b, size_t *n) {
    *found = is_captured(stream);
    if (id) *id = captures;
    if (graph) *graph = (void *)16;
    if (n) *n = 0;
    return 0;
}

int cudaStreamBeginCapture(void *stream, int mode) {
    captured_stream = stream;
    capturing = 1;
    spoiled = fails_next_capture;
    fails_next_capture = 0;
    captures++;
    return status();
}

int cudaStreamBeginCaptureToGraph(void *stream, void *graph, void *a, void *b, size_t n, int mode) { return cudaStreamBeginCapture(stream, mode); }

int cudaStreamEndCapture(void *stream, void **graph) {
    int failed = spoiled;
    capturing = spoiled = 0;
    *graph = failed ? NULL : (void *)16;
    return failed ? CAPTURE_INVALIDATED : status();
}

int cudaGraphInstantiate(void **p, void *graph, unsigned long long flags) { *p = (void *)16; return status(); }
int cudaGraphInstantiateWithFlags(void **p, void *graph, unsigned long long flags) { *p = (void *)16; return status(); }
int cudaGraphGetNodes(void *graph, void **nodes, size_t *n) { *n = 1; return 0; }
int cudaStreamGetPriority(void *stream, int *priority) { *priority = 0; return 0; }

const char *cudaGetErrorName(int error) { return error == OUT_OF_MEMORY ? "cudaErrorMemoryAllocation" : "cudaErrorOther"; }

const char *cudaGetErrorString(int error) {
    switch (error) {
        case 0: return "no error";
        case OUT_OF_MEMORY: return "out of memory";
        case 700: return "an illegal memory access was encountered";
        case 710: return "device-side assert triggered";
        case CAPTURE_UNSUPPORTED: return "operation not permitted when stream is capturing";
        case CAPTURE_INVALIDATED: return "operation failed due to a previous error during capture";
        default: return "unknown error";
    }
}

static int handle(void **p) { static uintptr_t next = 0x1000; *p = (void *)__atomic_add_fetch(&next, 16, __ATOMIC_RELAXED); return 0; }

int cudaStreamCreateWithFlags(void **p, unsigned flags) { return handle(p); }
int cudaStreamCreateWithPriority(void **p, unsigned flags, int priority) { return handle(p); }
int cudaEventCreate(void **p) { return handle(p); }
int cudaEventCreateWithFlags(void **p, unsigned flags) { return handle(p); }

/* ---- kernels ---- */

typedef struct { const void *function; const char *name; } kernel;
static kernel *kernels;
static size_t n_kernels, room, n_sorted;

void **__cudaRegisterFatBinary(void *binary) { static void *one[4]; return one; }

void __cudaRegisterFunction(void **binary, const void *function, char *local, const char *name) {
    pthread_mutex_lock(&lock);
    if (n_kernels == room) kernels = realloc(kernels, (room = 2 * room + 1024) * sizeof *kernels);
    kernels[n_kernels++] = (kernel){function, name};
    pthread_mutex_unlock(&lock);
}

static int by_function(const void *a, const void *b) {
    const char *x = ((const kernel *)a)->function, *y = ((const kernel *)b)->function;
    return (x > y) - (x < y);
}

static const char *name_of(const void *function) {
    pthread_mutex_lock(&lock);
    if (n_sorted != n_kernels) qsort(kernels, n_sorted = n_kernels, sizeof *kernels, by_function);
    kernel key = {function, NULL}, *found = bsearch(&key, kernels, n_kernels, sizeof *kernels, by_function);
    pthread_mutex_unlock(&lock);
    return found ? found->name : "unknown";
}

static int launched(const char *name, long long blocks) {
    if (broken) return broken;
    note(capturing ? "CAPTURED" : "KERNEL", name, blocks);
    if (capturing) return 0;
    if (launches_left > 0 && --launches_left == 0) broken = next_error; /* as on a GPU, a later call reports it */
    return 0;
}

static __thread struct { dim3 grid, block; size_t shared; void *stream; } next_launch;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream) {
    next_launch.grid = grid; next_launch.block = block; next_launch.shared = shared; next_launch.stream = stream;
    return 0;
}

int __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void **stream) {
    *grid = next_launch.grid; *block = next_launch.block; *shared = next_launch.shared; *stream = next_launch.stream;
    return 0;
}

int __cudaGetKernel(void **k, const void *function) { *k = (void *)function; return 0; }
int cudaGetKernel(void **k, const void *function) { *k = (void *)function; return 0; }
static long long volume(dim3 grid) { return (long long)grid.x * grid.y * grid.z; }
int __cudaLaunchKernel(const void *k, dim3 grid, dim3 block, void **a, size_t shared, void *stream) { return launched(name_of(k), volume(grid)); }
int cudaLaunchKernel(const void *k, dim3 grid, dim3 block, void **a, size_t shared, void *stream) { return launched(name_of(k), volume(grid)); }
int cudaLaunchKernelExC(const void *config, const void *k, void **a) { return launched(name_of(k), 0); }

int cudaGraphLaunch(void *graph, void *stream) { return launched("graph", 1); }

int cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *function) {
    memset(a, 0, sizeof *a);
    a->maxThreadsPerBlock = 1024;
    a->numRegs = 32;
    a->ptxVersion = a->binaryVersion = 90;
    a->maxDynamicSharedSizeBytes = 48 << 10;
    return 0;
}

int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *f, int block, size_t shared) { *n = 2; return 0; }
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *f, int block, size_t shared, unsigned flags) { *n = 2; return 0; }
int cudaGetSymbolAddress(void **p, const void *symbol) { static char zeros[1 << 16]; *p = zeros; return 0; }

/* ---- the driver ---- */

static int nothing(void) { return 0; }
int cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags, int *found) {
    *function = nothing;
    if (found) *found = 0;
    return 0;
}
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return 0; }
int cuCtxGetCurrent(void **context) { *context = (void *)16; return 0; }
int cuDeviceGet(int *device, int number) { *device = 0; return 0; }

/* ---- cuBLAS ---- */

int cublasCreate_v2(void **p) { return broken ? CUBLAS_FAILED : handle(p); }
int cublasGetMathMode(void *h, int *mode) { *mode = 0; return 0; }
int cublasGetPointerMode_v2(void *h, int *mode) { *mode = 0; return 0; }
int cublasLtMatmulDescCreate(void **p) { return handle(p); }
int cublasLtMatmulPreferenceCreate(void **p) { return handle(p); }
int cublasLtMatrixLayoutCreate(void **p) { return handle(p); }
size_t cublasLtGetVersion(void) { return 130000; }
int cublasLtMatmulAlgoGetHeuristic(void *h, void *d, void *a, void *b, void *c, void *o, void *p, int wanted, char *found, int *n) {
    memset(found, 0, 96);
    *n = 1;
    return 0;
}
#define PRODUCT(name) int name() { return launched(#name, 1) ? CUBLAS_FAILED : 0; }
PRODUCT(cublasSgemm_v2) PRODUCT(cublasDgemm_v2) PRODUCT(cublasSgemv_v2) PRODUCT(cublasSdot_v2) PRODUCT(cublasGemmEx)
PRODUCT(cublasSgemmStridedBatched) PRODUCT(cublasGemmStridedBatchedEx) PRODUCT(cublasLtMatmul)
