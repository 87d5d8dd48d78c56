#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "mempool/base/error.h"

struct evp_md_ctx_st;

namespace runnel::demo {

/// SHA-256 of bytes that arrive in pieces.
class sha256 {
 public:
  sha256();
  void add(std::span<const std::byte> bytes);
  /// 64 hexadecimal digits; once, at the end.
  [[nodiscard]] std::string digits();

 private:
  struct release {
    void operator()(evp_md_ctx_st* context) const noexcept;
  };
  std::unique_ptr<evp_md_ctx_st, release> context_;
};

/// @error os
[[nodiscard]] outcome<std::string> sha256_of_file(const std::string& path);

}  // namespace runnel::demo
