#include "apps/demo/sha256.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "mempool/base/check.h"
#include "mempool/base/unique_fd.h"
#include "mempool/base/units.h"

namespace runnel::demo {

void sha256::release::operator()(evp_md_ctx_st* context) const noexcept {
  EVP_MD_CTX_free(context);
}

sha256::sha256() : context_{EVP_MD_CTX_new()} {
  CHECK(context_ != nullptr);
  CHECK(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
}

void sha256::add(std::span<const std::byte> bytes) {
  CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
}

std::string sha256::digits() {
  std::array<unsigned char, 32> digest{};
  CHECK(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1);
  std::string text;
  for (const unsigned char byte : digest) {
    text += fmt::format("{:02x}", byte);
  }
  return text;
}

outcome<std::string> sha256_of_file(const std::string& path) {
  const unique_fd file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file) {
    return fail(os_error(), "read", path);
  }
  sha256 sum;
  std::vector<std::byte> chunk(mib);
  for (;;) {
    const ssize_t count = read(file.get(), chunk.data(), chunk.size());
    if (count < 0) {
      return fail(os_error(), "read", path);
    }
    if (count == 0) {
      return sum.digits();
    }
    sum.add(std::span{chunk}.first(static_cast<std::size_t>(count)));
  }
}

}  // namespace runnel::demo
