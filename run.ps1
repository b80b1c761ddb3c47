# .\run.ps1 ARGS    the same as `holdfast ARGS`, in the project's own environment: migrate, verify, jobs, keys.
#                   (Workers and the local Postgres need Linux or macOS.)
$ErrorActionPreference = "Stop"
$root = $PSScriptRoot
$venv = Join-Path $root ".venv"
$python = Join-Path $venv "Scripts\python.exe"
$holdfast = Join-Path $venv "Scripts\holdfast.exe"
$stamp = Join-Path $venv ".holdfast-stamp"

# What the environment was made from: when that changes, it is made anew.
function Get-Definition {
    $files = "pyproject.toml", "requirements.lock" | ForEach-Object { Join-Path $root $_ }
    (Get-FileHash -Algorithm SHA256 $files | ForEach-Object { $_.Hash }) -join " "
}

function Find-Python {
    foreach ($candidate in @("py -3.13", "py -3.12", "py -3.11", "python", "python3")) {
        $program, $version = $candidate -split " "
        if (-not (Get-Command $program -ErrorAction SilentlyContinue)) { continue }
        & $program @($version | Where-Object { $_ }) -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>$null
        if ($LASTEXITCODE -eq 0) { return $candidate }
    }
    throw "Python 3.11 or newer is needed and none was found: winget install Python.Python.3.12"
}

function Initialize-Environment {
    Write-Host "Setting up the environment (first run only)..."
    if (-not (Test-Path $python)) {
        $program, $version = (Find-Python) -split " "
        & $program @($version | Where-Object { $_ }) -m venv $venv
        if ($LASTEXITCODE -ne 0) { throw "the virtual environment could not be made in $venv" }
    }
    $pip = @("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps")
    & $python @pip --require-hashes --requirement (Join-Path $root "requirements.lock")
    if ($LASTEXITCODE -ne 0) { throw "the packages of requirements.lock could not be installed" }
    & $python @pip --no-build-isolation --editable $root
    if ($LASTEXITCODE -ne 0) { throw "Holdfast itself could not be installed" }
    Set-Content -Path $stamp -Value (Get-Definition)
}

$isFresh = (Test-Path $holdfast) -and (Test-Path $stamp) -and ((Get-Content $stamp) -eq (Get-Definition))
if (-not $isFresh) { Initialize-Environment }
& $holdfast @args
exit $LASTEXITCODE
