#include "apps/doctor/kernel_image.h"

#include <fcntl.h>
#include <lzma.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace runnel::doctor {
namespace {

constexpr std::size_t packed_bytes_max = std::size_t{256} << 20;
constexpr std::size_t unpacked_bytes_max = std::size_t{1} << 30;
constexpr std::uint64_t decoder_bytes_max = std::uint64_t{256} << 20;
constexpr std::size_t piece_bytes = std::size_t{1} << 16;

outcome<std::vector<std::byte>> read_file(const std::string& path) {
  const unique_fd file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat about{};
  if (!file || fstat(file.get(), &about) != 0) {
    return fail(os_error(), "read", path);
  }
  if (!S_ISREG(about.st_mode) || about.st_size <= 0 ||
      static_cast<std::size_t>(about.st_size) > packed_bytes_max) {
    return fail({errc::protocol}, "read", path, "that is no kernel and no module of one");
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(about.st_size));
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = read(file.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0) {
      return fail(os_error(), "read", path);
    }
    if (got == 0) {
      break;  // it has shrunk
    }
    done += static_cast<std::size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

template <class T>
T number_at(std::span<const std::byte> bytes, std::size_t offset) {
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

/// The compressed kernel in a boot image. Empty: it is no image, or a wrong one.
std::span<const std::byte> payload_of(std::span<const std::byte> image) {
  constexpr std::size_t header_end = 0x250;
  constexpr std::uint32_t magic = 0x53726448;  // HdrS
  constexpr std::size_t sector_bytes = 512;
  if (image.size() < header_end || number_at<std::uint32_t>(image, 0x202) != magic) {
    return {};
  }
  const auto sectors = number_at<std::uint8_t>(image, 0x1f1);
  const std::size_t code =
      (std::size_t{sectors == 0 ? std::uint8_t{4} : sectors} + 1) * sector_bytes;
  const std::size_t offset = code + number_at<std::uint32_t>(image, 0x248);
  const std::size_t length = number_at<std::uint32_t>(image, 0x24c);
  if (length < 2 * sizeof(std::uint32_t) || offset > image.size() ||
      length > image.size() - offset) {
    return {};
  }
  // Behind it, the kernel's build puts the size of what it unpacks to.
  return image.subspan(offset, length - sizeof(std::uint32_t));
}

/// A file in memory that grows up to a size.
class sink {
 public:
  sink() : file_{memfd_create("runnel-kernel", MFD_CLOEXEC)} {}

  result<> put(std::span<const std::byte> bytes) {
    if (!file_) {
      return std::unexpected{os_error()};
    }
    bytes_ += bytes.size();
    if (bytes_ > unpacked_bytes_max) {
      return fail(errc::protocol);
    }
    const ssize_t put = write(file_.get(), bytes.data(), bytes.size());
    if (put < 0) {
      return std::unexpected{os_error()};
    }
    // In memory it is all or nothing, but for signals, which nobody sends.
    return static_cast<std::size_t>(put) == bytes.size() ? result<>{} : fail(errc::protocol);
  }
  unique_fd take() { return std::move(file_); }

 private:
  unique_fd file_;
  std::size_t bytes_ = 0;
};

result<> unpack_xz(std::span<const std::byte> packed, sink& into) {
  lzma_stream stream = LZMA_STREAM_INIT;
  const std::unique_ptr<lzma_stream, decltype(&lzma_end)> end{&stream, lzma_end};
  if (lzma_stream_decoder(&stream, decoder_bytes_max, LZMA_TELL_UNSUPPORTED_CHECK) != LZMA_OK) {
    return fail(errc::no_memory);
  }
  std::array<std::byte, piece_bytes> piece{};
  stream.next_in = reinterpret_cast<const std::uint8_t*>(packed.data());
  stream.avail_in = packed.size();
  for (lzma_ret state = LZMA_OK; state != LZMA_STREAM_END;) {
    stream.next_out = reinterpret_cast<std::uint8_t*>(piece.data());
    stream.avail_out = piece.size();
    state = lzma_code(&stream, LZMA_FINISH);  // also ends when the input does
    if (state != LZMA_OK && state != LZMA_STREAM_END) {
      return fail(errc::protocol);
    }
    if (const auto put = into.put(std::span{piece}.first(piece.size() - stream.avail_out)); !put) {
      return put;
    }
  }
  return {};
}

result<> unpack_zstd(std::span<const std::byte> packed, sink& into) {
  const std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream{ZSTD_createDStream(),
                                                                          ZSTD_freeDStream};
  if (stream == nullptr) {
    return fail(errc::no_memory);
  }
  std::array<std::byte, piece_bytes> piece{};
  ZSTD_inBuffer in{.src = packed.data(), .size = packed.size(), .pos = 0};
  for (std::size_t left = 1; left != 0;) {  // until the end of the frame
    ZSTD_outBuffer out{.dst = piece.data(), .size = piece.size(), .pos = 0};
    const std::size_t before = in.pos;
    left = ZSTD_decompressStream(stream.get(), &out, &in);
    const bool stuck = in.pos == before && out.pos == 0;  // the input is cut off
    if (ZSTD_isError(left) != 0 || (left != 0 && stuck)) {
      return fail(errc::protocol);
    }
    if (const auto put = into.put(std::span{piece}.first(out.pos)); !put) {
      return put;
    }
  }
  return {};
}

bool starts_with(std::span<const std::byte> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

result<> unpack(std::span<const std::byte> bytes, sink& into) {
  if (starts_with(bytes,
                  "\xfd"
                  "7zXZ")) {
    return unpack_xz(bytes, into);
  }
  return starts_with(bytes, "\x28\xb5\x2f\xfd") ? unpack_zstd(bytes, into) : into.put(bytes);
}

}  // namespace

outcome<unique_fd> unpack_kernel_file(const std::string& path) {
  const auto bytes = read_file(path);
  if (!bytes) {
    return std::unexpected{bytes.error()};
  }
  const auto payload = payload_of(*bytes);
  sink into;
  const auto unpacked = unpack(payload.empty() ? std::span{*bytes} : payload, into);
  if (!unpacked) {
    return fail(unpacked.error(), "unpack", path, "xz and zstd are known; is the file whole?");
  }
  return into.take();
}

}  // namespace runnel::doctor
